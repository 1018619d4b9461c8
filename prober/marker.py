"""Signed keys: mint them, and find and verify every key that a message carries. Pure."""

from __future__ import annotations

import base64
import hmac
import html
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from prober.model import KeyKind

VERSION = "dp1"
"""The prefix by which a marker is recognised inside any other text."""

MAX_SCANNED = 2_000_000
"""Characters of text in total that are looked at; what follows is not."""

MAX_MARKERS = 16
MAX_OTHERS = 64
_MAX_CHECKED_MARKERS = 256
_MAX_CHECKED_IDS = 2048
_MAX_RECIPIENTS = 16

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_RANDOM_SPACE = 36**13
_TIME_SPACE = 36**7
_MARKER_ENTROPY = 9  # bytes: the least that covers 36**13
_CONTENT_ENTROPY = 4
_MIN_SECRET = 16

# A run of letters that only looks like a marker seldom claims a time between 2001 and 2106.
_CREDIBLE_TIMES = range(10**9, 2**32)

_MARKER = re.compile(VERSION + r"(?=([a-z0-9]{21}[a-z2-7]{24}))")
_WHOLE_MARKER = re.compile(VERSION + r"[a-z0-9]{21}[a-z2-7]{24}")
_UUID_MIDDLE = re.compile(r"-(?:[0-9a-f]{4}-){3}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# Ids are visible ASCII of at most 200 characters: no other id is ever learned.
_ANGLED_ID = re.compile(r"<([!-;=?A-~]{1,200})@([A-Za-z0-9.-]{1,250})>")
_HEADER_ID = re.compile(r"^message-id[ \t]*:\s{0,8}<([!-;=?-~]{1,200})>", re.IGNORECASE | re.MULTILINE)
_BARE_ID = re.compile(r"\s{0,8}<(?=.{1,200}>)([!-;=?A-~]{1,200}@[!-;=?A-~]{1,200})>\s{0,8}")
_PLUS_TAG = re.compile(r"[^@+\s]{1,64}\+([!-?A-~]{1,200})@[^@\s]{1,250}")

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]+")
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})++")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_TAG = re.compile(r"<[^<>]*>")
_PERCENT_LAYERS = 3


class Standing(StrEnum):
    """What the signature of a key says about where it comes from."""

    GENUINE = "genuine"
    FORGED = "forged"
    FOREIGN = "foreign"
    UNSIGNED = "unsigned"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret under an id of one character ``[a-z0-9]``. ``secret`` has at least 16 bytes."""

    id: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.id) != 1 or self.id not in _DIGITS:
            raise ValueError(f"signing key id {self.id!r}: write one character, a-z or 0-9")
        if len(self.secret) < _MIN_SECRET:
            raise ValueError(
                f"signing key {self.id!r}: the secret needs at least {_MIN_SECRET} bytes; make a random one"
            )


@dataclass(frozen=True, slots=True)
class Keyring:
    """The one or two active keys of an environment: the first signs, all verify."""

    environment: str
    keys: tuple[SigningKey, ...]

    def __post_init__(self) -> None:
        if not self.environment:
            raise ValueError("a keyring needs the name of its environment")
        if not 1 <= len(self.keys) <= 2:
            raise ValueError(f"environment {self.environment!r} has {len(self.keys)} signing keys: give one or two")
        if len({key.id for key in self.keys}) != len(self.keys):
            raise ValueError(f"environment {self.environment!r} has two signing keys of one id: give each its own")


@dataclass(frozen=True, slots=True)
class Found:
    """A key in a message. ``minted_at`` (wall seconds) is known of genuine keys alone: others may claim any time."""

    kind: KeyKind
    value: str
    standing: Standing
    minted_at: float | None


def mint(keyring: Keyring, now_wall: float, entropy: bytes, *, channel: str = "", recipient: str = "") -> str:
    """A marker of 48 characters ``[a-z0-9]``, signed for the environment and, where given, channel and recipient.

    Version (3), key id (1), unix seconds (7, base 36), random (13), MAC (24, base 32). Raises ValueError for a time
    before 1970 or beyond the seven digits, and for less than 9 bytes of entropy.
    """
    seconds = _seconds(now_wall, _TIME_SPACE)
    _demand_entropy(entropy, _MARKER_ENTROPY)
    key = keyring.keys[0]
    random = _base36(int.from_bytes(entropy, "big") % _RANDOM_SPACE, 13)
    body = f"{VERSION}{key.id}{_base36(seconds, 7)}{random}"
    return body + _marker_mac(key, body, keyring.environment, channel, recipient)


def mint_content_id(keyring: Keyring, now_wall: float, entropy: bytes) -> str:
    """A UUIDv4 in lower case whose 122 free bits are unix seconds (32), random (26) and MAC (64).

    Raises ValueError for a time outside 1970 to 2106, and for less than 4 bytes of entropy.
    """
    seconds = _seconds(now_wall, 2**32)
    _demand_entropy(entropy, _CONTENT_ENTROPY)
    random = int.from_bytes(entropy, "big") % 2**26
    mac = _content_mac(keyring.keys[0], seconds, random, keyring.environment)
    return _to_uuid(seconds << 90 | random << 64 | int.from_bytes(mac, "big"))


def minted_at(value: str) -> float:
    """Wall seconds that a marker or content id claims; only a verified one says the truth. Raises ValueError."""
    if _WHOLE_MARKER.fullmatch(value):
        return float(_marker_seconds(value))
    if _UUID.fullmatch(value):
        return float(_free_bits(value) >> 90)
    raise ValueError("neither a marker nor a content id")


def find(texts: Sequence[str], recipients: Sequence[str], keyring: Keyring, *, channel: str = "") -> tuple[Found, ...]:
    """Every key that the message carries, once each: markers first, then other ids, each in order of appearance.

    Texts are read as they are, unescaped and percent-decoded, and without tags; invisible characters are ignored.
    ``channel`` and ``recipients`` are what a bound marker must be bound to. At most 16 markers and 64 other ids are
    returned; where there are more, the verified ones stay and then the earlier ones. Linear in the size of the text.
    """
    views = tuple(_views(texts))
    bindings = _bindings(channel, recipients)
    markers = _markers(views, keyring, bindings)
    others = [*_uuids(views, keyring), *_message_ids(views), *_plus_tags(recipients)]
    return (*_most_telling(markers, MAX_MARKERS), *_most_telling(others, MAX_OTHERS))


def without_invisible(text: str) -> str:
    """The text without zero-width and bidirectional control characters and soft hyphens."""
    return text if text.isascii() else _INVISIBLE.sub("", text)


def unescaped(text: str) -> str:
    """The text with its HTML character references (those that end in a semicolon) replaced."""
    return _ENTITY.sub(lambda match: html.unescape(match[0]), text) if "&" in text else text


def _seconds(now_wall: float, space: int) -> int:
    if not 0 <= now_wall < space:
        raise ValueError(f"no key can be minted at wall time {now_wall!r}: the clock is wrong")
    return int(now_wall)


def _demand_entropy(entropy: bytes, least: int) -> None:
    if len(entropy) < least:
        raise ValueError(f"{len(entropy)} bytes of entropy are too few to mint a key: give at least {least}")


def _base36(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def _mac(key: SigningKey, *parts: bytes) -> bytes:
    """HMAC-SHA256 over the parts, each behind its length, so that no two lists of parts read the same."""
    return hmac.digest(key.secret, b"".join(len(part).to_bytes(4, "big") + part for part in parts), "sha256")


def _marker_mac(key: SigningKey, body: str, environment: str, channel: str, recipient: str) -> str:
    # Mail systems change the case of addresses; "surrogateescape"-like leftovers of a broken mail must not raise.
    parts = (text.encode("utf-8", "replace") for text in (body, environment, channel, recipient.lower()))
    return base64.b32encode(_mac(key, b"marker", *parts)[:15]).decode("ascii").lower()


def _content_mac(key: SigningKey, seconds: int, random: int, environment: str) -> bytes:
    words = (seconds.to_bytes(4, "big"), random.to_bytes(4, "big"))
    return _mac(key, b"content-id", *words, environment.encode("utf-8", "replace"))[:8]


def _to_uuid(free: int) -> str:
    """The version 4, variant 1 UUID around 122 free bits."""
    high, middle, low = free >> 74, free >> 62 & 0xFFF, free & (1 << 62) - 1
    return str(uuid.UUID(int=high << 80 | 4 << 76 | middle << 64 | 2 << 62 | low))


def _free_bits(value: str) -> int:
    bits = int(value.replace("-", ""), 16)
    return bits >> 80 << 74 | (bits >> 64 & 0xFFF) << 62 | bits & (1 << 62) - 1


def _marker_seconds(value: str) -> int:
    return int(value[4:11], 36)


def _views(texts: Iterable[str]) -> Iterator[str]:
    """Each text as it is, decoded, and without tags, where these differ, up to the bound."""
    left = MAX_SCANNED
    for text in texts:
        if left <= 0:
            return
        plain = without_invisible(text[:left])
        left -= len(text)
        decoded = without_invisible(_percent_decoded(unescaped(plain)))
        yield from dict.fromkeys((plain, decoded, _TAG.sub("", decoded) if "<" in decoded else decoded))


def _percent_decoded(text: str) -> str:
    """The text without percent-encoding, were it encoded several times over."""
    for _ in range(_PERCENT_LAYERS):
        if "%" not in text:
            break
        text = _PERCENT.sub(lambda match: bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "replace"), text)
    return text


def _lowered(view: str) -> str:
    """The text in lower case, character by character (one capital letter has a lower form of two)."""
    return view.replace("\u0130", "i").lower()


def _bindings(channel: str, recipients: Sequence[str]) -> tuple[tuple[str, str], ...]:
    bound = [(channel, recipient) for recipient in recipients[:_MAX_RECIPIENTS]]
    return tuple(dict.fromkeys([("", ""), (channel, ""), *bound]))


def _markers(views: Sequence[str], keyring: Keyring, bindings: Sequence[tuple[str, str]]) -> list[Found]:
    known: dict[str, Standing] = {}
    found: list[Found] = []
    for view in views:
        lowered = _lowered(view)
        spans = []
        for match in _MARKER.finditer(lowered):
            value = VERSION + match[1]
            if value not in known:
                if len(known) >= _MAX_CHECKED_MARKERS:
                    break
                known[value] = _standing(value, keyring, bindings)
            spans.append((match.start(), value, known[value]))
        found += _disjoint(spans, view)
    return found


def _standing(value: str, keyring: Keyring, bindings: Sequence[tuple[str, str]]) -> Standing:
    key = next((key for key in keyring.keys if key.id == value[3]), None)
    if key is None:
        return Standing.FOREIGN
    body, mac = value[:24], value[24:]
    for channel, recipient in bindings:
        if hmac.compare_digest(mac, _marker_mac(key, body, keyring.environment, channel, recipient)):
            return Standing.GENUINE
    return Standing.FORGED


def _disjoint(spans: Sequence[tuple[int, str, Standing]], view: str) -> Iterator[Found]:
    """The genuine markers, and of the others those that are no accident of the letters around another marker."""
    taken = [start for start, _, standing in spans if standing is Standing.GENUINE]
    nearest, end = 0, 0
    for start, value, standing in spans:
        if standing is Standing.GENUINE:
            yield Found(KeyKind.MARKER, value, standing, float(_marker_seconds(value)))
            continue
        while nearest < len(taken) and taken[nearest] + len(value) <= start:
            nearest += 1
        overlaps = nearest < len(taken) and taken[nearest] < start + len(value)
        if start < end or overlaps or not _credible(value, view[start : start + len(value)]):
            continue
        end = start + len(value)
        yield Found(KeyKind.MARKER, value, standing, None)


def _credible(value: str, written: str) -> bool:
    """Whether an unverified marker was meant as one: base 64 in a tracking link mixes its cases and its times."""
    return written.isascii() and written in (value, value.upper()) and _marker_seconds(value) in _CREDIBLE_TIMES


def _uuids(views: Sequence[str], keyring: Keyring) -> list[Found]:
    values: dict[str, None] = {}
    for view in views:
        lowered = _lowered(view)
        for match in _UUID_MIDDLE.finditer(lowered):
            value = lowered[max(0, match.start() - 8) : match.end() + 12]
            if _UUID.fullmatch(value):
                values[value] = None
                if len(values) >= _MAX_CHECKED_IDS:
                    return [_uuid(value, keyring) for value in values]
    return [_uuid(value, keyring) for value in values]


def _uuid(value: str, keyring: Keyring) -> Found:
    free = _free_bits(value)
    if _to_uuid(free) == value:
        mac = (free & (1 << 64) - 1).to_bytes(8, "big")
        seconds, random = free >> 90, free >> 64 & (1 << 26) - 1
        for key in keyring.keys:
            if hmac.compare_digest(mac, _content_mac(key, seconds, random, keyring.environment)):
                return Found(KeyKind.CONTENT_ID, value, Standing.GENUINE, float(seconds))
    return Found(KeyKind.PUBLICATION_ID, value, Standing.UNSIGNED, None)


def _message_ids(views: Sequence[str]) -> Iterator[Found]:
    for view in views:
        for match in islice(_ANGLED_ID.finditer(view), _MAX_CHECKED_IDS):
            if _is_ses(match[2]):
                yield _unsigned(KeyKind.MESSAGE_ID, match[1])
        headers = [match[1] for match in islice(_HEADER_ID.finditer(view), MAX_OTHERS)]
        bare = _BARE_ID.fullmatch(view)
        for value in [*headers, *([bare[1]] if bare else [])]:
            if not _is_ses(value.rpartition("@")[2]):
                yield _unsigned(KeyKind.MESSAGE_ID, value)


def _is_ses(domain: str) -> bool:
    return ("." + domain.lower()).endswith(".amazonses.com")


def _plus_tags(recipients: Sequence[str]) -> Iterator[Found]:
    for recipient in recipients[:MAX_OTHERS]:
        if match := _PLUS_TAG.fullmatch(recipient.strip()):
            yield _unsigned(KeyKind.PLUS_TAG, match[1])


def _unsigned(kind: KeyKind, value: str) -> Found:
    return Found(kind, value, Standing.UNSIGNED, None)


def _most_telling(found: Iterable[Found], most: int) -> tuple[Found, ...]:
    """At most so many, each once, in their order: verified ones before ids of which every message may hold many."""
    once = tuple({(key.kind, key.value): key for key in found}.values())
    if len(once) <= most:
        return once
    ranked = sorted(enumerate(once), key=lambda item: (_rank(item[1]), item[0]))[:most]
    return tuple(key for _, key in sorted(ranked, key=lambda item: item[0]))


def _rank(key: Found) -> int:
    if key.standing is Standing.GENUINE:
        return 0
    return 2 if key.kind is KeyKind.PUBLICATION_ID else 1
