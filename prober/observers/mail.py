"""Reading mail: raw bytes -> decoded texts, addresses and the header block's fingerprint. Pure, bounded, never raises.

Only single header values go to the standard library: its MIME parser takes time that is quadratic in the nesting, and
its address and encoded-word parsers in the length of a header. So bodies are split here, linearly, and what is handed
on is cut short first.
"""

from __future__ import annotations

import binascii
import codecs
import hashlib
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.message import Message as Header
from email.utils import getaddresses, parsedate_to_datetime
from itertools import islice
from urllib.parse import unquote

from prober.channel_choice import channels_of
from prober.model import Channel
from prober.observers.mail_trace import MOST_HOPS, received_at, receiver

LIMIT = 1_000_000
"""Bytes of a message that are read unless told otherwise."""

MOST_PARTS = 100
MOST_DEPTH = 10
MOST_HEADERS = 500
MOST_HEADER_BYTES = 256_000
MOST_VALUE_CHARACTERS = 64_000
MOST_ADDRESS_CHARACTERS = 8_000
MOST_PARAMETER_CHARACTERS = 2_000

_DELIVERED = ("delivered-to", "x-original-to", "envelope-to")
_ADDRESSED = ("to", "cc")

# Text encodings whose decoders are quadratic, warn, or always fail.
_REFUSED_CODECS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "unicode-escape", "undefined"}

_ENCODED_WORD = re.compile(r"=\?([A-Za-z0-9_.:*-]{1,40})\?([bBqQ])\?([^?]*)\?=")
_BETWEEN_WORDS = re.compile(r"(?<=\?=)\s+(?==\?)")
_FOLD = re.compile(r"\r?\n(?=[ \t])")
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_HEADER_NAME = re.compile(r"([!-9;-~]{1,200})[ \t]*:")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_ENDLESS_REFERENCE = re.compile(r"&#[0-9]{9,}")
_TAG = re.compile(r"<!--|<(/?)([A-Za-z][A-Za-z0-9]{0,15})[^<>]*>|<[!?/][^<>]*>")
_HTML_LINK = re.compile(
    r"""\b(?:href|src)\s{0,20}=\s{0,20}(?:"([^"]{1,8000})"|'([^']{1,8000})'|([^\s"'<>]{1,8000}))""", re.I
)
_TEXT_LINK = re.compile(r"https?://[^\s<>\"]{1,8000}", re.I)

_INLINE = frozenset(
    ["a", "abbr", "b", "bdi", "bdo", "big", "code", "em", "font", "i", "mark", "s", "small", "span", "strong"]
) | frozenset(["sub", "sup", "tt", "u", "wbr"])
_UNREAD = frozenset(("script", "style", "title"))


@dataclass(frozen=True, slots=True)
class Mail:
    """A decoded message.

    ``texts`` are the subject, then all headers as lines, then for each text part what it says (for HTML its source
    and what a person reads of it) and its links percent-decoded. ``sender`` is the one address in From, lower-cased
    and empty unless there is exactly one; ``delivered`` are the envelope's recipients where the servers noted them,
    ``recipients`` those and everybody in To and Cc. ``date`` is the Date header in seconds since 1970.
    ``headers_block_hash`` stays the same when the mail is moved; ``truncated`` says that not all of it was read.
    ``hops`` are the servers that say in Received that they took it, the last one first, with their time;
    ``authentication_results`` those headers, the topmost first.
    """

    texts: tuple[str, ...]
    sender: str
    recipients: tuple[str, ...]
    delivered: tuple[str, ...]
    headers_block_hash: str
    message_id: str
    date: float | None
    truncated: bool
    hops: tuple[tuple[str, float], ...] = ()
    authentication_results: tuple[str, ...] = ()


_Headers = list[tuple[str, str]]


@dataclass(slots=True)
class _Parts:
    """How many parts may still be opened."""

    left: int = MOST_PARTS

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


def read_mail(raw: bytes, *, limit: int = LIMIT) -> Mail:
    """Decode a message of any quality; at most ``limit`` bytes of it are read, in time linear in them."""
    truncated = len(raw) > limit
    raw = raw[:limit]
    block, body = _split(raw)
    headers = _headers(block)
    subject = _first(headers, "subject")
    lines = "\n".join(f"{name}: {value}" for name, value in headers)
    texts = [subject, lines, *_texts(headers, body, _Parts(), 1)]
    delivered = _addresses(headers, _DELIVERED)
    senders = _addresses(headers, ("from",))
    return Mail(
        texts=tuple(text for text in texts if text),
        sender=senders[0] if len(senders) == 1 else "",
        recipients=tuple(dict.fromkeys([*delivered, *_addresses(headers, _ADDRESSED)])),
        delivered=delivered,
        headers_block_hash=hashlib.sha256(block.replace(b"\r\n", b"\n")).hexdigest(),
        message_id=_first(headers, "message-id")[:1000],
        date=_date(_first(headers, "date")),
        truncated=truncated,
        hops=tuple(_hops(headers)),
        authentication_results=tuple(islice(_every(headers, "authentication-results"), 20)),
    )


def addressed(mail: Mail, channels: Sequence[Channel]) -> tuple[Channel, ...]:
    """The channels on which a mail is visible: by the envelope's recipients where they are noted, else by To and Cc.

    The only channel of a mailbox has all that comes to it.
    """
    if len(channels) == 1:
        return tuple(channels)
    return channels_of(mail.delivered, channels) or channels_of(mail.recipients, channels)


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """The header block without its blank line, and the body."""
    if raw.startswith((b"\n", b"\r\n")):
        return b"", raw.lstrip(b"\r\n")
    end = _BLANK_LINE.search(raw)
    return (raw, b"") if end is None else (raw[: end.start()], raw[end.end() :])


def _headers(block: bytes) -> _Headers:
    """Names, lower-cased, and decoded values of a header block, its first part where it is too long."""
    unfolded = _FOLD.sub("", _as_text(block[:MOST_HEADER_BYTES]))
    found: _Headers = []
    for line in islice(unfolded.split("\n"), 4 * MOST_HEADERS):
        name = _HEADER_NAME.match(line)
        if name is not None and len(found) < MOST_HEADERS:
            found.append((name[1].lower(), decode_words(line[name.end() :][:MOST_VALUE_CHARACTERS].strip())))
    return found


def _as_text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def decode_words(value: str) -> str:
    """A header's value with its encoded words (RFC 2047) decoded; a character cut between two of them is mended."""
    pieces: list[str] = []
    octets, charset, end = b"", "", 0
    value = _BETWEEN_WORDS.sub("", value)
    for word in _ENCODED_WORD.finditer(value):
        its_charset = word[1].split("*")[0].lower()
        if word.start() > end or its_charset != charset:
            pieces += [_decode(octets, charset), value[end : word.start()]]
            octets, charset = b"", its_charset
        encoded = word[3].encode("utf-8", "replace")
        octets += _from_base64(encoded) if word[2] in "bB" else binascii.a2b_qp(encoded, header=True)
        end = word.end()
    return "".join([*pieces, _decode(octets, charset), value[end:]])


def _decode(octets: bytes, charset: str) -> str:
    """Text in a declared charset; latin-1 where that is unknown or wrong, so that ASCII survives."""
    name = charset.strip("\"' ").lower() or "utf-8"
    try:
        codec = codecs.lookup(name if len(name) <= 40 else "latin-1").name
        return octets.decode("latin-1" if codec in _REFUSED_CODECS else codec)
    except (LookupError, ValueError):
        return octets.decode("latin-1")


def _from_base64(octets: bytes) -> bytes:
    """What can be read of base64, also when it is cut off in the middle."""
    kept = _NOT_BASE64.sub(b"", octets)
    kept = kept[:-1] if len(kept) % 4 == 1 else kept
    return binascii.a2b_base64(kept + b"=" * (-len(kept) % 4))


def _first(headers: _Headers, name: str) -> str:
    return next((value for its, value in headers if its == name), "")


def _every(headers: _Headers, name: str) -> Iterator[str]:
    return (value for its, value in headers if its == name)


def _hops(headers: _Headers) -> Iterator[tuple[str, float]]:
    for value in islice(_every(headers, "received"), MOST_HOPS):
        at = _date(received_at(value))
        if at is not None:
            yield receiver(value), at


def _addresses(headers: _Headers, names: tuple[str, ...]) -> tuple[str, ...]:
    values = [value[:MOST_ADDRESS_CHARACTERS] for name in names for its, value in headers[:MOST_HEADERS] if its == name]
    found: list[str] = []
    for value in values[:20]:
        try:
            found += [address.lower() for _, address in getaddresses([value]) if "@" in address]
        except (RecursionError, ValueError, IndexError):  # nested comments; what is left of a broken list
            continue
    return tuple(dict.fromkeys(found))


def _date(value: str) -> float | None:
    try:
        date = parsedate_to_datetime(value[:100])
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _texts(headers: _Headers, body: bytes, parts: _Parts, depth: int, *, report: bool = False) -> Iterator[str]:
    """The texts of one entity and of all that it contains.

    A report's enclosed message is passed over: a bounce quotes the mail that did not arrive.
    """
    if not parts.take():
        return
    kind, parameters = _content_type(headers)
    if kind.startswith("multipart/"):
        for raw in _split_parts(body, parameters.get("boundary", ""), parts) if depth < MOST_DEPTH else ():
            block, its_body = _split(raw)
            yield from _texts(_headers(block), its_body, parts, depth + 1, report=kind == "multipart/report")
        return
    if kind.startswith("message/"):
        if kind == "message/rfc822" and depth < MOST_DEPTH and not report:
            block, its_body = _split(_transferred(headers, body))
            inner = _headers(block)
            yield "\n".join(f"{name}: {value}" for name, value in inner)
            yield from _texts(inner, its_body, parts, depth + 1)
        return
    if kind.startswith("text/"):
        text = _decode(_transferred(headers, body), parameters.get("charset", ""))
        yield from _html_texts(text) if kind == "text/html" else _plain_texts(text)


def _content_type(headers: _Headers) -> tuple[str, dict[str, str]]:
    """The media type and its parameters ``boundary`` and ``charset``; plain text where it cannot be understood."""
    header = Header()
    header["content-type"] = _first(headers, "content-type")[:MOST_PARAMETER_CHARACTERS] or "text/plain"
    try:
        kind = header.get_content_type()
        boundary, charset = header.get_boundary(""), header.get_content_charset("")
    except (ValueError, LookupError, TypeError, AttributeError):
        return "text/plain", {}
    return kind, {"boundary": boundary, "charset": charset}


def _transferred(headers: _Headers, body: bytes) -> bytes:
    encoding = _first(headers, "content-transfer-encoding").strip().lower()
    if encoding == "base64":
        return _from_base64(body)
    if encoding == "quoted-printable":
        return binascii.a2b_qp(body)
    return body


def _split_parts(body: bytes, boundary: str, parts: _Parts) -> Iterator[bytes]:
    """The raw parts between a multipart's boundary lines; what follows a missing last one counts as a part."""
    if not boundary:
        return
    line = re.compile(rb"(?:^|\n)--" + re.escape(boundary.encode("utf-8", "replace")) + rb"(--)?[ \t]*(?=\r?\n|$)")
    start = None
    for found in line.finditer(body):
        if start is not None:
            yield body[start : found.start()].removesuffix(b"\r")
        if found[1] or parts.left <= 0:
            return
        after = body.find(b"\n", found.end())
        if after < 0:
            return
        # The line end stays where the next boundary can begin with it: an empty part has no other.
        start = after + 1
    if start is not None:
        yield body[start:]


def _plain_texts(text: str) -> Iterator[str]:
    yield text
    yield _decoded_links(found[0] for found in _TEXT_LINK.finditer(text))


def _html_texts(source: str) -> Iterator[str]:
    unescaped = _unescape(source)
    yield unescaped
    yield _unescape(_visible(source))
    links = (_unescape(found[1] or found[2] or found[3]) for found in _HTML_LINK.finditer(source))
    yield _decoded_links(links)


def _unescape(text: str) -> str:
    # A reference of more digits than any character has would be turned into a number of that length, or refused.
    return html.unescape(_ENDLESS_REFERENCE.sub("\ufffd", text))


def _visible(source: str) -> str:
    """HTML without tags, comments, scripts and styles; a tag that breaks the line does so here."""
    kept: list[str] = []
    position, skipping = 0, ""
    while (tag := _TAG.search(source, position)) is not None:
        name = (tag[2] or "").lower()
        if not skipping:
            kept.append(source[position : tag.start()])
            kept.append("" if name in _INLINE or not name else "\n")
        if tag[0] == "<!--":
            end = source.find("-->", tag.end())
            if end < 0:
                return "".join(kept)
            position = end + 3
            continue
        position = tag.end()
        if name in _UNREAD:
            if tag[1] and name == skipping:
                skipping = ""
            elif not tag[1] and not skipping:
                skipping = name
    if not skipping:
        kept.append(source[position:])
    return "".join(kept)


def _decoded_links(links: Iterator[str]) -> str:
    """Links on lines of their own, percent-decoded twice: a click counter carries the real link as a parameter."""
    return "\n".join(unquote(unquote(link)) for link in islice(links, 2000))
