"""What a mail's headers say of its way: Received hops and Authentication-Results. Pure, bounded, never raises.

Anybody may write such headers, so they are waypoints and facts: they are shown, and no verdict rests on them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_HOPS = 12
MOST_RESULTS = 40

_BY = re.compile(r"\bby\s+\[?([A-Za-z0-9][A-Za-z0-9.:-]{0,79})", re.I)
_COMMENT_MARKS = re.compile(r'[()"\\]')
_RESULT = re.compile(r"\s*([a-z0-9-]{1,20})(?:\s*/\s*\d+)?\s*=\s*([a-z]{1,20})\b", re.I)
_MAILDIR_TIME = re.compile(r"([0-9]{9,11})\.[^.]{0,40}?M([0-9]{1,6})(?![0-9])")

MECHANISMS = ("spf", "dkim", "dmarc", "arc")
"""Those of which is told."""

RESULTS = frozenset(
    {"pass", "fail", "softfail", "neutral", "none", "policy", "temperror", "permerror", "bestguesspass"}
)


@dataclass(frozen=True, slots=True)
class Authentication:
    """What a trusted server found out about the sender; ``results`` are in the order of MECHANISMS."""

    authserv_id: str
    results: tuple[tuple[str, str], ...]

    @property
    def failed(self) -> bool:
        """DMARC decides where it says anything, else one of SPF and DKIM must pass."""
        by_mechanism = dict(self.results)
        if by_mechanism.get("dmarc") in ("pass", "bestguesspass"):
            return False
        if by_mechanism.get("dmarc") in ("fail", "permerror"):
            return True
        asked = [by_mechanism[name] for name in ("spf", "dkim") if name in by_mechanism]
        return bool(asked) and "pass" not in asked

    def __str__(self) -> str:
        return " ".join([f"{self.authserv_id or 'the server'}:", *(f"{name}={said}" for name, said in self.results)])


def receiver(received: str) -> str:
    """The server that added a Received header, by its own word; ``?`` where it does not say."""
    found = _BY.search(_without_comments(received[:2000]))
    return found[1].lower() if found else "?"


def received_at(received: str) -> str:
    """The date of a Received header, as written: what follows its last semicolon."""
    return received[-2000:].rpartition(";")[2].strip()


def authentication(headers: Iterable[str], trusted: Sequence[str]) -> Authentication | None:
    """The topmost Authentication-Results (RFC 8601) of a server that is trusted; "" trusts those without an id.

    Below it anybody may have written another in the same name.
    """
    known = {authserv_id.lower() for authserv_id in trusted}
    for value in headers:
        segments = [part.strip() for part in _without_comments(value[:8000]).split(";")][: MOST_RESULTS + 1]
        # Microsoft leaves the id out: the first segment is a result then.
        named = _RESULT.match(segments[0]) is None
        authserv_id = segments[0].split()[0].lower() if named and segments[0] else ""
        if authserv_id in known:
            return Authentication(authserv_id[:60], _results(segments[1:] if named else segments))
    return None


def stored_at(guid: str) -> float | None:
    """The time in a Maildir name (a delivery agent's, to the microsecond), by which Dovecot knows a message."""
    found = _MAILDIR_TIME.match(guid)
    return int(found[1]) + int(found[2]) / 1e6 if found else None


def _results(segments: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """One result for each mechanism: that one signature of several passes is enough."""
    found: dict[str, str] = {}
    for segment in segments:
        result = _RESULT.match(segment)
        if result is None or (mechanism := result[1].lower()) not in MECHANISMS:
            continue
        said = result[2].lower()
        said = said if said in RESULTS else "other"
        if mechanism not in found or said == "pass":
            found[mechanism] = said
    return tuple((mechanism, found[mechanism]) for mechanism in MECHANISMS if mechanism in found)


def _without_comments(text: str) -> str:
    """A structured header's value without comments, which may nest, and without what stands in quotes."""
    kept: list[str] = []
    depth = start = 0
    quoted = False
    for mark in _COMMENT_MARKS.finditer(text):
        at = mark.start()
        if at < start:
            continue  # escaped
        if not depth and not quoted:
            kept.append(text[start:at])
        if mark[0] == "\\":
            start = at + 2
            continue
        start = at + 1
        if mark[0] == '"':
            quoted = not quoted if not depth else quoted
        elif not quoted:
            depth = max(0, depth + (1 if mark[0] == "(" else -1))
    return "".join([*kept, "" if depth or quoted else text[start:]])
