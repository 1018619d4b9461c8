"""Signed keys: minting, finding through whatever mail and chat do to a text, and telling true from false."""

from __future__ import annotations

import email
import email.policy
import os
import re
import time
import uuid
from email.message import EmailMessage
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.marker import (
    MAX_MARKERS,
    MAX_OTHERS,
    MAX_SCANNED,
    Found,
    Keyring,
    SigningKey,
    Standing,
    find,
    mint,
    mint_content_id,
    minted_at,
)
from prober.model import KeyKind

CALM = settings(deadline=None)  # the machine may be busy with other tests
NOW = 1_790_000_000.0
OLD = SigningKey("a", b"first secret of this test")
NEW = SigningKey("b", b"second secret of this test")
RING = Keyring("production", (OLD,))
ENTROPY = st.binary(min_size=9, max_size=32)
TIMES = st.floats(min_value=0, max_value=2**32 - 1)


def _marker(ring: Keyring = RING, now: float = NOW, *, channel: str = "", recipient: str = "") -> str:
    return mint(ring, now, os.urandom(16), channel=channel, recipient=recipient)


def _found(
    text: str, ring: Keyring = RING, *, channel: str = "", recipients: tuple[str, ...] = ()
) -> tuple[Found, ...]:
    return find([text], recipients, ring, channel=channel)


def _genuine(marker: str, minted: float = NOW) -> Found:
    return Found(KeyKind.MARKER, marker, Standing.GENUINE, float(int(minted)))


def _altered(key: str, at: int = -1) -> str:
    at %= len(key)
    return key[:at] + ("3" if key[at] == "2" else "2") + key[at + 1 :]


# Minting


@CALM
@given(TIMES, ENTROPY)
def test_a_marker_has_48_safe_characters_and_tells_its_time(now: float, entropy: bytes) -> None:
    """A marker is 48 characters of [a-z0-9], and its time is that of its minting, to the second."""
    marker = mint(RING, now, entropy)
    assert re.fullmatch(r"dp1a[a-z0-9]{20}[a-z2-7]{24}", marker)
    assert minted_at(marker) == int(now)
    assert _found(marker) == (_genuine(marker, now),)


@CALM
@given(TIMES, ENTROPY)
def test_a_content_id_is_a_uuid4_and_tells_its_time(now: float, entropy: bytes) -> None:
    """A content id is a version 4 UUID in lower case which verifies and tells its time."""
    content_id = mint_content_id(RING, now, entropy)
    parsed = uuid.UUID(content_id)
    assert (parsed.version, parsed.variant, str(parsed)) == (4, uuid.RFC_4122, content_id)
    assert minted_at(content_id) == int(now)
    assert _found(content_id) == (Found(KeyKind.CONTENT_ID, content_id, Standing.GENUINE, float(int(now))),)


@CALM
@given(st.binary(min_size=9, max_size=9), st.binary(min_size=9, max_size=9))
def test_other_entropy_makes_another_marker(one: bytes, other: bytes) -> None:
    """Two markers of one second are equal only if their entropy is (or agrees modulo the random space)."""
    space = 36**13
    same = int.from_bytes(one, "big") % space == int.from_bytes(other, "big") % space
    assert (mint(RING, NOW, one) == mint(RING, NOW, other)) is same


@pytest.mark.parametrize("now", [-1.0, float("inf"), float("nan"), 36.0**7])
def test_a_broken_clock_mints_nothing(now: float) -> None:
    """A time that the form cannot hold is refused."""
    with pytest.raises(ValueError, match="clock is wrong"):
        mint(RING, now, bytes(16))
    with pytest.raises(ValueError, match="clock is wrong"):
        mint_content_id(RING, now, bytes(16))


def test_too_little_entropy_mints_nothing() -> None:
    """Keys that could collide are not made."""
    with pytest.raises(ValueError, match="give at least 9"):
        mint(RING, NOW, bytes(8))
    with pytest.raises(ValueError, match="give at least 4"):
        mint_content_id(RING, NOW, bytes(3))


def test_only_keys_have_a_minting_time() -> None:
    """What is no key has no time."""
    for text in ("", "dp1", "x" * 48, "not-a-uuid"):
        with pytest.raises(ValueError, match="neither"):
            minted_at(text)


def test_a_keyring_says_what_is_wrong_with_it_and_never_its_secret() -> None:
    """Wrong key ids, short secrets, too many keys, twins and a nameless environment are refused without the secret."""
    secret = b"canary-secret-canary"
    with pytest.raises(ValueError, match="one character") as wrong_id:
        SigningKey("A", secret)
    with pytest.raises(ValueError, match="at least 16") as short:
        SigningKey("a", secret[:12])
    with pytest.raises(ValueError, match="one or two") as none:
        Keyring("production", ())
    with pytest.raises(ValueError, match="one or two"):
        Keyring("production", tuple(SigningKey(id, secret) for id in "abc"))
    with pytest.raises(ValueError, match="of one id") as twins:
        Keyring("production", (SigningKey("a", secret), SigningKey("a", secret + b"2")))
    with pytest.raises(ValueError, match="name of its environment"):
        Keyring("", (OLD,))
    said = repr(Keyring("production", (SigningKey("a", secret),))) + "".join(map(str, (wrong_id, short, none, twins)))
    assert "canary" not in said


# Standing


def test_both_keys_verify_during_a_rotation() -> None:
    """After a rotation the new key signs, and what the old one signed still verifies."""
    before, rotated, after = RING, Keyring("production", (NEW, OLD)), Keyring("production", (NEW,))
    old, new = _marker(before), _marker(rotated)
    old_content, new_content = mint_content_id(before, NOW, bytes(16)), mint_content_id(rotated, NOW, bytes(16))
    assert (old[3], new[3]) == ("a", "b")
    texts = f"{old} {new} {old_content} {new_content}"
    assert [key.standing for key in _found(texts, rotated)] == [Standing.GENUINE] * 4
    assert [(key.kind, key.standing) for key in _found(texts, after)] == [
        (KeyKind.MARKER, Standing.FOREIGN),
        (KeyKind.MARKER, Standing.GENUINE),
        (KeyKind.PUBLICATION_ID, Standing.UNSIGNED),
        (KeyKind.CONTENT_ID, Standing.GENUINE),
    ]


def test_another_environment_is_not_ours() -> None:
    """A marker of another environment is forged under our key id, foreign under another; a content id is unsigned."""
    twin = Keyring("staging", (OLD,))
    other = Keyring("staging", (NEW,))
    marker = _marker(twin)
    assert _found(marker) == (Found(KeyKind.MARKER, marker, Standing.FORGED, None),)
    assert [key.standing for key in _found(_marker(other))] == [Standing.FOREIGN]
    content_id = mint_content_id(twin, NOW, bytes(16))
    assert _found(content_id) == (Found(KeyKind.PUBLICATION_ID, content_id, Standing.UNSIGNED, None),)


@CALM
@given(ENTROPY, st.integers(3, 47))
def test_any_altered_character_is_noticed(entropy: bytes, at: int) -> None:
    """A marker of which one character was changed is never genuine."""
    assert all(key.standing is not Standing.GENUINE for key in _found(_altered(mint(RING, NOW, entropy), at)))


@CALM
@given(st.integers(0, 127))
def test_any_altered_bit_of_a_content_id_is_noticed(bit: int) -> None:
    """A content id of which one bit was changed is an unsigned id like any other."""
    changed = str(uuid.UUID(int=uuid.UUID(mint_content_id(RING, NOW, b"entropy")).int ^ 1 << bit))
    assert _found(changed) == (Found(KeyKind.PUBLICATION_ID, changed, Standing.UNSIGNED, None),)


@pytest.mark.parametrize(
    ("bound", "shown", "standing"),
    [
        (("", ""), ("slack", ("a@x.org",)), Standing.GENUINE),
        (("slack", ""), ("slack", ()), Standing.GENUINE),
        (("slack", ""), ("discord", ()), Standing.FORGED),
        (("slack", ""), ("", ()), Standing.FORGED),
        (("email", "ada@x.org"), ("email", ("bob@x.org", "Ada@X.org")), Standing.GENUINE),
        (("email", "ada@x.org"), ("email", ("bob@x.org",)), Standing.FORGED),
        (("email", "ada@x.org"), ("email", ()), Standing.FORGED),
        (("email", "ada@x.org"), ("email-2", ("ada@x.org",)), Standing.FORGED),
        (("emaila", "da@x.org"), ("email", ("ada@x.org",)), Standing.FORGED),
    ],
)
def test_a_bound_marker_counts_only_where_it_is_bound(
    bound: tuple[str, str], shown: tuple[str, tuple[str, ...]], standing: Standing
) -> None:
    """Channel and recipient in the MAC must be those of the message; empty ones serve everywhere."""
    marker = _marker(channel=bound[0], recipient=bound[1])
    assert [key.standing for key in _found(marker, channel=shown[0], recipients=shown[1])] == [standing]


# Finding: what mail and chat do to a text

INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2064\ufeff\u00ad"


@st.composite
def _spoilt(draw: st.DrawFn, key: str) -> str:
    """The key as it may stand in a message: riddled with what is not seen, shouted, encoded, cut up by tags."""
    if draw(st.booleans()):
        key = key.upper()
    pieces = [letter + draw(st.text(INVISIBLE, max_size=2)) for letter in key]
    if draw(st.booleans()):
        pieces.insert(draw(st.integers(1, len(pieces) - 1)), draw(st.sampled_from(["<b>", "</i>", "<wbr>", "&shy;"])))
        return "<p>" + "".join(pieces)
    for _ in range(draw(st.integers(0, 2))):
        pieces = [f"%{ord(letter):02x}" if len(letter) == 1 else quote(letter, safe="") for letter in pieces]
        pieces = ["".join(pieces)]
    return "".join(pieces)


MARKER, CONTENT_ID = mint(RING, NOW, b"some entropy 123"), mint_content_id(RING, NOW, b"some entropy 123")


@CALM
@given(st.sampled_from([MARKER, CONTENT_ID]).flatmap(lambda key: st.tuples(st.just(key), _spoilt(key))))
def test_a_spoilt_key_is_found(drawn: tuple[str, str]) -> None:
    """Zero-width characters, upper case, percent-encoding and tags inside a key do not hide it."""
    key, spoilt = drawn
    assert key in [found.value for found in _found(f"Hello {spoilt} there") if found.standing is Standing.GENUINE]


@CALM
@given(st.text(max_size=60), st.text(max_size=60), ENTROPY)
def test_a_marker_is_found_in_any_surroundings(before: str, after: str, entropy: bytes) -> None:
    """Whatever text stands around a marker, it is found, once, as genuine, and the search never raises."""
    marker = mint(RING, NOW, entropy)
    genuine = [key for key in _found(before + marker + after) if key.kind is KeyKind.MARKER]
    assert genuine == [_genuine(marker)]


@CALM
@given(st.text("dp1ab2", max_size=120), st.text("dp1ab2", max_size=120))
def test_letters_around_a_marker_make_no_second_one(before: str, after: str) -> None:
    """Neighbours that look like the start of a marker neither hide the genuine one nor make a false one of it."""
    found = _found(before + MARKER + after)
    assert _genuine(MARKER) in found
    assert {key.value for key in found} <= {MARKER} | {key.value for part in (before, after) for key in _found(part)}


def test_an_accident_beside_a_marker_is_not_told() -> None:
    """A neighbour that continues into a marker as if it were one itself is no second key, verified or not."""
    entropy = int("a" * 13, 36).to_bytes(9, "big")
    genuine, foreign = mint(RING, NOW, entropy), mint(Keyring("elsewhere", (NEW,)), NOW, entropy)
    assert find([genuine[:11] + genuine[:11] + genuine], [], RING) == (_genuine(genuine),)
    assert [key.standing for key in _found(foreign[:11] + foreign)] == [Standing.FOREIGN]
    assert [key.value for key in _found(foreign + foreign[:11] + genuine)] == [foreign, genuine]


@pytest.mark.parametrize(
    "form",
    [
        "id{}x",
        "*{}* _{}_ ~{}~ `{}`",
        "**{}** ||{}|| ```{}```",
        "<https://e.example/t?u=https%3A%2F%2Fp.example%2F{}&x=1|open>",
        "https://e.example/{}/unsubscribe?next=%252F{}",
        "dp1{}dp1",
        "dp1a{}",
        "\u202b{}\u202c",
    ],
)
def test_markdown_links_and_neighbours_do_not_hide_a_marker(form: str) -> None:
    """Slack's and Discord's markup, links, and letters right beside a marker leave it readable."""
    assert _found(form.replace("{}", MARKER)) == (_genuine(MARKER),)


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64", "7bit"])
def test_a_marker_survives_mail(encoding: str) -> None:
    """Subject (RFC 2047) and body, encoded and decoded again, still hold the marker, as a bound one too."""
    marker = _marker(channel="email", recipient="ada@x.org")
    message = EmailMessage()
    message["Subject"] = f"Grüße aus der Werkstatt, die lange Zeile wird gefaltet {marker}"
    message.set_content(f"Read {'on ' * 20}{marker}\n", cte=encoding)
    read = email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
    assert isinstance(read, EmailMessage)
    for text in (str(read["Subject"]), read.get_content()):
        assert _found(text, channel="email", recipients=("ada@x.org",)) == (_genuine(marker),)


def test_a_lookalike_in_a_tracking_link_is_no_marker() -> None:
    """Mixed case, or a time far off, where nothing verifies, is an accident of the letters and not reported."""
    foreign = _marker(Keyring("elsewhere", (NEW,)))
    assert [key.standing for key in _found(foreign)] == [Standing.FOREIGN]
    assert [key.standing for key in _found(foreign.upper())] == [Standing.FOREIGN]
    assert _found(foreign[:20].upper() + foreign[20:]) == ()
    assert _found("dp1b" + "z" * 7 + foreign[11:]) == ()


def test_letters_that_only_lower_to_ours_raise_nothing() -> None:
    """A Kelvin sign or a dotted capital I in the place of a letter neither breaks the search nor shifts it."""
    foreign = _marker(Keyring("elsewhere", (NEW,)))
    assert _found("dp1b" + "\u212a" * 7 + foreign[11:]) == ()
    assert _found("\u0130" * 50 + foreign)[0].value == foreign


# Other ids


def test_every_other_id_is_a_candidate() -> None:
    """UUIDs, SES and Message-ID header ids, and plus-tags of recipients are unsigned keys, in this order."""
    alert = "0c6b2f9e-8a0f-11ef-9a6b-0242ac120002"
    texts = [
        f"see https://p.example/alerts/{alert.upper()}?x=1 by ada@x.org or <bob@x.org>",
        "Received: from a by b id <0102018f-aaa-000000@eu-west-1.amazonses.com>",
        "Subject: hello\nMessage-ID: <One.Two+3@mail.example>\nFrom: <eve@x.org>",
        "<Bare@mail.example>",
        "<not@fakeamazonses.com.example> <nor@notamazonses.com>",
    ]
    found = find(texts, ["Box+Tag.7@x.org", "plain@x.org", "odd+@x.org"], RING)
    assert {key.standing for key in found} == {Standing.UNSIGNED}
    assert [(key.kind, key.value) for key in found] == [
        (KeyKind.PUBLICATION_ID, alert),
        (KeyKind.MESSAGE_ID, "0102018f-aaa-000000"),
        (KeyKind.MESSAGE_ID, "One.Two+3@mail.example"),
        (KeyKind.MESSAGE_ID, "Bare@mail.example"),
        (KeyKind.PLUS_TAG, "Tag.7"),
    ]


def test_a_key_is_told_once_and_in_order() -> None:
    """A key in several texts and forms is one key; markers come first, each kind in order of appearance."""
    first, second = _marker(), _marker()
    texts = [f"{CONTENT_ID} {first}", f"{second} {first.upper()} <b>{CONTENT_ID}</b>"]
    assert [key.value for key in find(texts, [], RING)] == [first, second, CONTENT_ID]


# Bounds


def test_the_verified_keys_stay_when_there_are_too_many() -> None:
    """Of more keys than the bound the verified ones stay, then the earlier ones, in their order."""
    forged = [_altered(_marker()) for _ in range(40)]
    ids = [str(uuid.uuid4()) for _ in range(200)]
    found = find([" ".join([*forged, MARKER, *ids, CONTENT_ID])], ["a+tag@x.org"], RING)
    assert [key.value for key in found] == [
        *forged[: MAX_MARKERS - 1],
        MARKER,
        *ids[: MAX_OTHERS - 2],
        CONTENT_ID,
        "tag",
    ]


def test_what_lies_beyond_the_bound_is_not_read() -> None:
    """The bound holds over all texts together."""
    filler = "x" * (MAX_SCANNED - 10)
    assert find([filler, MARKER], [], RING) == ()
    assert find([MARKER, filler, MARKER], [], RING) == (_genuine(MARKER),)
    assert find(["y" + filler, "", "12345678", MARKER], [], RING) == ()


HOSTILE = {
    "markers": " ".join(mint(RING, NOW, n.to_bytes(16, "big")) for n in range(10_000)),
    "forged": " ".join(_altered(mint(RING, NOW, n.to_bytes(16, "big"))) for n in range(10_000)),
    "ids": " ".join(str(uuid.UUID(int=n, version=4)) for n in range(10_000)),
    "prefixes": "dp1" * 600_000,
    "percent": "%25" * 600_000,
    "tags": "<a@" * 600_000,
    "digits": "&#" + "9" * 1_900_000 + ";",
    "headers": "message-id:\n" * 150_000,
    "spaces": "message-id:" + " " * 1_900_000,
    "invisible": "a\u200b" * 900_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_costs_linear_time(name: str) -> None:
    """Two megabytes made to be slow take far less than the seconds (or hours) that backtracking would."""
    start = time.process_time()
    found = find([HOSTILE[name]], [f"r{n}@x.org" for n in range(1000)], RING, channel="email")
    assert time.process_time() - start < 3
    assert len(found) <= MAX_MARKERS + MAX_OTHERS


@CALM
@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_garbage_raises_nothing(texts: list[str], recipients: list[str]) -> None:
    """No text, not even lone surrogates, makes the search fail, and nothing in it is genuine."""
    found = find([*texts, "\ud800 dp1a\udfff"], [*recipients, "\ud800@x"], RING, channel="\ud800")
    assert all(key.standing is not Standing.GENUINE for key in found)
