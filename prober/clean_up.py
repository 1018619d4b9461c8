"""What is removed again, and when: a probe's messages and publications, old leftovers, control messages. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from prober.marker import Found, Standing
from prober.model import KeyKind, Message, Outcome, Timeliness

DAY = 86_400.0

FIRST_PAUSE, LONGEST_PAUSE = 60.0, 6 * 3600.0
"""Seconds between attempts at what cannot be removed now."""

_GOOD = {(Timeliness.ON_TIME, Outcome.DELIVERED), (Timeliness.MOOT, Outcome.WITHHELD)}
_SIGNED = {KeyKind.MARKER, KeyKind.CONTENT_ID}


class CleanUpKind(StrEnum):
    """What a clean-up removes: a probe's ``publication`` or ``message``, a ``leftover`` of which the ledger knows
    nothing, a ``control`` message."""

    PUBLICATION = "publication"
    MESSAGE = "message"
    LEFTOVER = "leftover"
    CONTROL = "control"


class Removal(StrEnum):
    """How a clean-up ended, for good: ``gone`` was not there any more, ``denied`` must not be removed by us,
    ``too_late`` is a publication that its target withdraws no more."""

    REMOVED = "removed"
    GONE = "gone"
    DENIED = "denied"
    TOO_LATE = "too_late"


@dataclass(frozen=True, slots=True)
class Lying:
    """One page of what lies on an observer's channels, whether it was read before or not.

    ``controls`` are messages that this account posted itself to prove sight; ``position`` is where the next page
    begins, empty after the last.
    """

    messages: tuple[Message, ...]
    controls: tuple[Message, ...]
    position: str


@dataclass(frozen=True, slots=True)
class PublishedPage:
    """One page of the publications that a target has: ids, each with the text in which its keys may stand.

    ``position`` is where the next page begins, empty after the last.
    """

    publications: tuple[tuple[str, str], ...]
    position: str


@dataclass(frozen=True, slots=True)
class Keeping:
    """For how many seconds what may be removed stays where it is.

    ``success`` and ``failure`` count from the settling of a probe's last question; ``leftover`` from the time in a
    marker whose probe the ledger does not know, and from the posting of a control message.
    """

    success: float = 600.0
    failure: float = DAY
    leftover: float = 2 * DAY


@dataclass(frozen=True, slots=True)
class Retention:
    """For how many seconds the ledger keeps settled probes, from their settling, and the totals of an hour."""

    success: float = 30 * DAY
    failure: float = 90 * DAY
    hourly: float = 400 * DAY


@dataclass(frozen=True, slots=True)
class Upkeep:
    """How long debris and records stay."""

    keeping: Keeping = Keeping()
    retention: Retention = Retention()


@dataclass(frozen=True, slots=True)
class Ended:
    """A probe all of whose questions are settled: when the last one was (wall seconds), and whether all is well."""

    at: float
    good: bool


def ended(verdicts: Iterable[tuple[Timeliness, Outcome, float]]) -> Ended:
    """The end of a probe by its deliveries' verdicts and when each was settled; at least one."""
    told = list(verdicts)
    good = all((timeliness, outcome) in _GOOD for timeliness, outcome, _ in told)
    return Ended(max(at for _, _, at in told), good)


def due_after(end: Ended, keeping: Keeping) -> float:
    """The wall time from which a settled probe's debris may go: failures stay longer, to be looked at."""
    return end.at + (keeping.success if end.good else max(keeping.success, keeping.failure))


def due_since(age_from: float, keeping: Keeping) -> float:
    """The wall time from which something may go that no ledger of ours need know."""
    return age_from + keeping.leftover


def next_attempt(attempts: int, now: float) -> float:
    """When to try again after so many attempts that failed."""
    return now + min(FIRST_PAUSE * 2.0 ** min(max(0, attempts - 1), 20), LONGEST_PAUSE)


def carries_our_key(found: Iterable[Found]) -> bool:
    """Whether a message is ours to remove: its marker or content id verifies for this environment."""
    return minted_last(found) is not None


def minted_last(found: Iterable[Found]) -> float | None:
    """When the youngest of our own verified keys was minted (wall seconds), None without any."""
    return max(
        (
            key.minted_at
            for key in found
            if key.kind in _SIGNED and key.standing is Standing.GENUINE and key.minted_at is not None
        ),
        default=None,
    )
