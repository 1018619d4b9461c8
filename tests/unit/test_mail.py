"""Reading mail: everything that a person or a program could read is found, whatever a message does to prevent it."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.observers.mail import MOST_PARTS, Mail, decode_words, read_mail

MESSAGES = Path(__file__).parents[2] / "fixtures" / "messages"
MARKER = "m1a1tq2xk7p4z9c3v5b8n6w0r2y4u6i8o1e3t5q7w9a2s4d6"
MEGABYTE = 1_000_000


def recorded(name: str) -> Mail:
    return read_mail((MESSAGES / name).read_bytes())


@pytest.mark.parametrize(
    "name",
    [
        "newsletter.eml",
        "alertmanager.eml",
        "latin1-said-utf8.eml",
        "unknown-charset.eml",
        "wrapped-by-filter.eml",
        "cut-base64.eml",
    ],
)
def test_marker_is_found_in_recorded_messages(name: str) -> None:
    """A marker is whole in some text, however the message was encoded, cut into lines or broken."""
    assert any(MARKER in text for text in recorded(name).texts)


def test_each_place_of_a_newsletter_is_read() -> None:
    """Subject, headers, plain text, HTML source, HTML as a person reads it, and decoded links are texts."""
    texts = recorded("newsletter.eml").texts
    subject, headers, plain, plain_links, source, visible, links = texts
    assert subject == f"Wöchentlich {MARKER}"
    assert "list-unsubscribe: <https://publishing.example/unsubscribe?u=1>" in headers
    assert f"Grüße! Marker {MARKER}" in plain
    assert plain_links == "https://publishing.example/content/0b8f0c1e-4d0a-4a7e-9b52-1f1c54a3f1aa"
    assert "<p>Grüße" in source
    assert "Grüße, Leserin!" in visible
    assert MARKER in visible
    assert not any(word in visible for word in ("not read", "color", "hidden"))
    assert "url=https://publishing.example/content/0b8f0c1e" in links


def test_addresses_are_plain_and_lower_cased() -> None:
    """Sender and recipients are bare addresses; the envelope's are also told apart."""
    mail = recorded("newsletter.eml")
    assert mail.sender == "news@publishing.example"
    assert mail.delivered == ("inbox-1@probe.example",)
    assert mail.recipients == ("inbox-1@probe.example", "inbox-1+weekly@probe.example")
    assert mail.message_id == "<0100018f-1@email.amazonses.com>"
    assert mail.date == 1_795_428_001.0


def test_a_second_sender_makes_none() -> None:
    """A mail that names two senders, in one header or two, is believed to be from neither."""
    for header in (b"From: a@good.example, b@evil.example\n", b"From: a@good.example\nFrom: b@evil.example\n"):
        assert read_mail(header + b"\n").sender == ""


def test_an_address_in_a_name_is_no_sender() -> None:
    """What stands in a display name is not an address."""
    assert read_mail(b'From: "a@good.example" <b@evil.example>\n\n').sender == "b@evil.example"


def test_a_bounce_shows_nothing_of_what_did_not_arrive() -> None:
    """The mail that a delivery report encloses is not read: it says that the mail was not delivered."""
    texts = recorded("bounce.eml").texts
    assert any("could not be delivered" in text for text in texts)
    assert not any(MARKER in text for text in texts)


def test_fingerprint_survives_a_move_and_tells_mails_apart() -> None:
    """The header block's hash depends on the headers only, not on line ends or the body."""
    first = read_mail(b"Subject: a\r\nMessage-ID: <1@x>\r\n\r\nbody")
    assert first.headers_block_hash == read_mail(b"Subject: a\nMessage-ID: <1@x>\n\nother").headers_block_hash
    assert first.headers_block_hash != read_mail(b"Subject: a\r\nMessage-ID: <2@x>\r\n\r\nbody").headers_block_hash


def test_words_cut_inside_a_character_are_mended() -> None:
    """A character whose bytes lie in two encoded words is whole again."""
    assert decode_words("=?utf-8?q?Gr=C3?= =?utf-8?q?=BC=C3=9Fe?= you") == "Grüße you"


def test_only_the_limit_is_read() -> None:
    """Of a mail of fifty megabytes no more than the limit is read, and that is said."""
    mail = read_mail(b"Subject: big\n\n" + b"x" * 50 * MEGABYTE, limit=10_000)
    assert mail.truncated
    assert sum(map(len, mail.texts)) < 11_000


def test_parts_are_bounded() -> None:
    """Of a mail with a hundred thousand parts only the first are opened."""
    mail = read_mail(b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\npart\n" * 90_000)
    assert sum(text == "part" for text in mail.texts) <= MOST_PARTS


def test_empty_parts_do_not_swallow_their_neighbours() -> None:
    """A part of no lines at all leaves the parts around it as they are."""
    mail = read_mail(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n\nhere\n--b--\n")
    assert "here" in mail.texts


def _nested(levels: int) -> bytes:
    return b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(levels))


BOMBS = {
    "nested multiparts": _nested(20_000),
    "one boundary for all": b"Content-Type: multipart/mixed; boundary=b\n\n--b\n" * 20_000,
    "nested messages": b"Content-Type: message/rfc822\n\n" * 30_000,
    "open tags": b"Content-Type: text/html\n\n" + b"<a " * 300_000,
    "open comments": b"Content-Type: text/html\n\n" + b"<!--" * 250_000,
    "open links": b"Content-Type: text/html\n\n" + b'href="' * 160_000,
    "endless reference": b"Content-Type: text/html\n\n&#" + b"9" * MEGABYTE,
    "megabyte header": b"Subject: " + b"s" * MEGABYTE,
    "a header of encoded words": b"Subject: " + b"=?a?q?" * 160_000 + b"\n\n",
    "many headers": b"A: b\n" * 200_000,
    "nested comments in an address": b"To: " + b"(" * MEGABYTE + b"\n\n",
    "many parameters": b"Content-Type: text/plain" + b';"' * 400_000 + b"\n\nx",
    "quadratic charset": b"Content-Type: text/plain; charset=punycode\n\n" + b"a" * MEGABYTE,
    "warning charset": b"Content-Type: text/plain; charset=unicode_escape\n\n\\d",
    "blank boundaries": b"Content-Type: multipart/mixed; boundary=b\n\n\n--b" + b" " * MEGABYTE,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_go_off_quietly(name: str) -> None:
    """What is built to take quadratic time or depth is read in linear time and without an error."""
    start = time.process_time()
    mail = read_mail(BOMBS[name])
    assert time.process_time() - start < 2.0
    assert sum(map(len, mail.texts)) < 4 * MEGABYTE


_CHARSETS = st.sampled_from(
    ["utf-8", "utf-16", "utf-7", "hz", "rot13", "zlib", "idna", "undefined", "", "\0", "é", "x" * 99]
)
_LINES = st.sampled_from(
    [
        b"Content-Type: multipart/mixed; boundary=b",
        b"Content-Type: text/html; charset=",
        b"Content-Type: message/rfc822",
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: quoted-printable",
        b"Subject: =?utf-8?b?",
        b"From: <",
        b"Date: 99 Foo 99999 25:61:61 +9999",
        b"",
        b"--b",
        b"--b--",
        b"<a href=%zz>&#x110000;&bogus",
    ]
)


@given(st.lists(st.one_of(_LINES, st.binary(max_size=40)), max_size=30), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_nothing_makes_it_raise(lines: list[bytes], end: bytes) -> None:
    """Any bytes at all are read without an error."""
    mail = read_mail(end.join(lines))
    assert all(isinstance(text, str) and text for text in mail.texts)


@given(_CHARSETS, st.binary(max_size=200))
def test_no_charset_makes_it_raise(charset: str, body: bytes) -> None:
    """Any declared charset over any body, and in a header, is read without an error."""
    encoded = base64.b64encode(body)
    head = b"Subject: =?" + charset.encode() + b"?b?" + encoded + b"?=\nContent-Transfer-Encoding: base64\n"
    read_mail(head + b"Content-Type: text/plain; charset=" + charset.encode() + b"\n\n" + encoded)


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789", min_size=48, max_size=48), st.integers(1, 47))
def test_markers_survive_every_transfer_encoding(marker: str, cut: int) -> None:
    """A marker comes through quoted-printable with soft breaks, base64, encoded words and inline markup."""
    octets = marker.encode()
    bodies = {
        b"quoted-printable": octets[:cut] + b"=\r\n" + octets[cut:],
        b"base64": base64.encodebytes(b"-" * 70 + octets).replace(b"\n", b"\r\n"),
        b"7bit": octets[:cut] + b"<b>" + octets[cut:] + b"</b>",
    }
    for encoding, body in bodies.items():
        head = b"Content-Type: text/html\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n"
        assert any(marker in text for text in read_mail(head + body).texts)
    word = f"Subject: =?utf-8?q?{marker[:cut]}?=\r\n =?utf-8?b?{base64.b64encode(octets[cut:]).decode()}?=\r\n\r\n"
    assert read_mail(word.encode()).texts[0] == marker
