"""Messages built to cost much: time and memory stay within a small multiple of an honest message of the same size."""

from __future__ import annotations

import base64
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from prober.marker import Keyring, SigningKey, find
from prober.observers.discord_text import texts_of
from prober.observers.json_reading import read_json
from prober.observers.mail import read_mail
from prober.observers.slack_text import message_texts

SIZE = 400_000
RING = Keyring("test", (SigningKey("t", b"a secret that only the tests know"),))
HTML = b"Subject: x\nContent-Type: text/html\n\n"
TEXT = b"Subject: x\n\n"
HONEST = HTML + b"<p>Some words, a <a href='https://site.example/?a=b&amp;c=d'>link</a>.</p>\n" * (SIZE // 76)


def filled(head: bytes, piece: bytes) -> bytes:
    return (head + piece * (SIZE // len(piece) + 1))[:SIZE]


MAILS = {
    "keys that are none": filled(TEXT, b"dp1s"),
    "markers cut short": filled(TEXT, b"dp1s0toydba1p2hyrmbqfhzkoxfvd6ckqvnzsskuo7qmvd7 "),
    "ids": filled(TEXT, b"0c6b2f9e-8a0f-41ef-9a6b-0242ac120002 "),
    "middles of ids": filled(TEXT, b"-0000-0000-0000-"),
    "addresses that never end": filled(TEXT, b"<a@"),
    "long addresses": filled(TEXT, b"<" + b"a" * 199 + b"@" + b"b" * 249),
    "message ids that never end": filled(TEXT, b"message-id: <a\n"),
    "bare ids": filled(TEXT, b"<a@b>"),
    "percent signs": filled(TEXT, b"%25"),
    "percent signs in layers": filled(TEXT, b"%252525"),
    "links": filled(TEXT, b"http://"),
    "brackets": filled(HTML, b"<"),
    "tags that never end": filled(HTML, b"<a "),
    "links that never end": filled(HTML, b"href='"),
    "blanks in a link": filled(HTML + b"href", b" "),
    "comments that never end": filled(HTML, b"<!--"),
    "scripts": filled(HTML, b"<script>"),
    "ampersands": filled(HTML, b"&"),
    "entities": filled(HTML, b"&amp;"),
    "numbers of characters": filled(HTML, b"&#1"),
    "endless number of a character": filled(HTML + b"&#", b"9"),
    "zeros in base 64": TEXT[:-1] + b"Content-Transfer-Encoding: base64\n\n" + base64.encodebytes(b"\0" * 280_000),
    "soft breaks": filled(TEXT[:-1] + b"Content-Transfer-Encoding: quoted-printable\n\n", b"=\n"),
    "surrogates": filled(TEXT[:-1] + b"Content-Type: text/plain; charset=utf-7\n\n", b"+2AA-"),
    "what is invisible": filled(TEXT, "d\u200b".encode()),
    "letters of two letters": filled(TEXT, "\u0130".encode()),
    "one long header": filled(b"Subject: ", b"=?utf-8?q?a?= "),
    "many headers": filled(b"", b"X-A: <a@b>\n"),
    "recipients": filled(b"To: ", b"a+b@c.example, "),
    "comments in a header": filled(b"To: ", b"("),
    "parts": filled(b"Content-Type: multipart/mixed; boundary=b\n\n", b"--b\n\nx\n"),
    "parts in parts": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(6_000)
    ),
    "mails in mails": filled(b"", b"Content-Type: message/rfc822\n\n"),
}


def searched(raw: bytes) -> int:
    mail = read_mail(raw)
    return len(find(mail.texts, mail.recipients, RING, channel="email"))


def seconds(act: Callable[[Any], object], on: Any) -> float:
    """This thread's CPU, the least of two tries."""
    times = []
    for _ in range(2):
        begun = time.thread_time()
        act(on)
        times.append(time.thread_time() - begun)
    return min(times)


def peak(act: Callable[[Any], object], on: Any) -> int:
    """Bytes in use at the most."""
    tracemalloc.start()
    try:
        act(on)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def honest() -> tuple[float, int]:
    return seconds(searched, HONEST), peak(searched, HONEST)


@pytest.mark.parametrize("name", MAILS)
def test_mail_bombs_cost_no_more_than_honest_mails(name: str, honest: tuple[float, int]) -> None:
    """Whatever a mail is made of, reading and searching it costs about what any mail of its size costs."""
    assert seconds(searched, MAILS[name]) < 20 * honest[0]
    assert peak(searched, MAILS[name]) < 8 * honest[1]


def _wide(levels: int, width: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = {"text": [value] * width, "type": "section"}
    return value


TREES = {
    "many short texts": [{"text": str(number)} for number in range(15_000)],
    "empty texts": [{"text": ""}] * 50_000,
    "shared branches": _wide(7, 4),
    "one long text": "x" * 1_000_000,
    "links": "<http://a|b>" * 20_000,
    "brackets": "<" * 250_000,
    "percent signs": "http://a/" + "%25" * 80_000,
    "keys and no values": {str(number): None for number in range(50_000)},
}


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("read", [message_texts, texts_of], ids=["slack", "discord"])
def test_payload_bombs_yield_bounded_texts(read: Callable[[Any], tuple[str, ...]], name: str) -> None:
    """However much a payload holds, its texts are bounded in number and size, at the cost of a walk through it."""
    payload = {"content": "c", "text": "t", "blocks": TREES[name], "embeds": TREES[name]}
    texts = read(payload)
    assert len(texts) <= 2_000
    assert sum(map(len, texts)) <= 600_000
    words = [{"text": "word " * 20}] * 15_000
    plain = {"content": "c", "text": "t", "blocks": words, "embeds": words}
    assert seconds(read, payload) < 40 * max(seconds(read, plain), 0.005)


def test_deep_json_costs_no_more_than_flat_json() -> None:
    """Cutting off what lies too deep is linear: twenty times the depth costs about twenty times as much."""
    short, long = ("[" * depth + "]" * depth for depth in (10_000, 200_000))
    assert seconds(read_json, long) < 100 * max(seconds(read_json, short), 0.001)
