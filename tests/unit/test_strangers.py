"""What strangers write where ids, names and types are expected: it is bounded, storable, and nobody's arrival."""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from prober.errors import LedgerError
from prober.ledger.ledger import Ledger
from prober.ledger.tables import observers, probes
from prober.marker import Keyring, SigningKey, find
from prober.observers.discord_text import is_blanked, is_ordinary
from prober.observers.mail import read_mail
from prober.observers.slack_text import is_ordinary as stands_on_the_channel

RING = Keyring("test", (SigningKey("t", b"a secret that only the tests know"),))
MOST_ID = 200


@pytest.mark.parametrize("value", ["a\0b", "\0", "\ud800", "a\udfffb", "\ud83d\ude00\0", "plain", "Grüße 😀"])
async def test_ledger_takes_every_text(ledger: Ledger, value: str) -> None:
    """NUL and halves of characters are replaced wherever text goes into the ledger; nothing else is touched."""

    def write(conn: Connection) -> str:
        conn.execute(observers.insert().values(location=value, name=value, blind_reason="", blind_detail=value))
        # A comparison takes it as an insertion does.
        row = conn.execute(select(observers).where(observers.c.name == value)).one()
        assert conn.execute(select(probes.c.id).where(probes.c.id.in_([value]))).all() == []
        assert row.location == row.name == row.blind_detail
        return str(row.name)

    stored = await ledger.write(write)
    assert "\0" not in stored
    assert stored == value or {"\0", *map(chr, range(0xD800, 0xE000))} & set(value)
    assert json.loads(json.dumps(stored)).encode()


async def test_errors_of_the_ledger_quote_no_message(ledger: Ledger) -> None:
    """What a statement was to write does not stand in the error that it ends in, nor in what that error came from."""
    canary = "-".join(["canary", "7"])

    def write(conn: Connection) -> None:
        conn.execute(observers.insert().values(location="here", name=canary, blind_reason=None, blind_detail=""))

    with pytest.raises(LedgerError) as caught:
        await ledger.write(write)
    assert canary not in "".join(traceback.format_exception(caught.value))


@given(st.text(min_size=1, max_size=600))
def test_ids_are_visible_and_short(text: str) -> None:
    """Whatever stands where an id is expected, what is taken for one can be learned: visible ASCII, 200 characters."""
    texts = [f"<{text}@eu-west-1.amazonses.com>", f"Message-ID: <{text}@x.example>", f"<{text}@x.example>"]
    for key in find(texts, [f"box+{text}@x.example"], RING):
        assert 0 < len(key.value) <= MOST_ID
        assert key.value.isascii()
        assert key.value.isprintable()
        assert " " not in key.value


@pytest.mark.parametrize("charset", ["utf-7", "utf-16", "utf-32", "hz", "unicode_escape", "no-such-charset"])
def test_sender_of_any_charset_is_storable(charset: str) -> None:
    """An address in encoded words brings no id that is not ASCII, whatever its sender becomes."""
    word = f"=?{charset}?q?a+2AA-=00b?="
    raw = f"From: {word}@evil.example\nTo: x+{word}@evil.example\nMessage-ID: <{word}@evil.example>\n\n".encode()
    mail = read_mail(raw)
    assert all(key.value.isascii() and "\0" not in key.value for key in find(mail.texts, mail.recipients, RING))


@pytest.mark.parametrize("kind", [0, 19, 20, 23])
def test_what_somebody_says_on_discord_is_ordinary(kind: int) -> None:
    """Messages, replies and answers of apps stand on the channel; empty ones are withheld from us."""
    assert is_ordinary({"type": kind, "content": "x"})
    assert is_blanked({"type": kind, "content": ""})


@pytest.mark.parametrize("kind", [1, 6, 7, 8, 18, 21, 24, 46, 999, -1, 2**80])
def test_what_discord_tells_is_not(kind: int) -> None:
    """Pins, joins, threads, AutoMod's alerts and what is yet unknown are no arrivals, and never withheld."""
    assert not is_ordinary({"type": kind, "content": "x"})
    assert not is_blanked({"type": kind, "content": ""})


@pytest.mark.parametrize(
    ("message", "stands"),
    [
        ({"ts": "1.000001"}, True),
        ({"ts": "1.000001", "thread_ts": None}, True),
        ({"ts": "1.000001", "thread_ts": "1.000001"}, True),
        ({"ts": "1.000001", "thread_ts": "0.000001"}, False),
        ({"ts": "1.000001", "thread_ts": ["1.000001"]}, False),
        ({"ts": "1.000001", "subtype": None}, True),
        ({"ts": "1.000001", "subtype": ["bot_message"]}, False),
        ({"ts": "1.000001", "subtype": "assistant_app_thread"}, False),
    ],
)
def test_null_is_as_good_as_nothing_on_slack(message: Mapping[str, Any], stands: bool) -> None:
    """A field that is null says no more than one that is missing; one of a wrong type is no ordinary message's."""
    assert stands_on_the_channel(message) is stands
