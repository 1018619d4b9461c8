"""What is removed again, and when: a probe's messages and publications, old leftovers, control messages. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from prober.model import Message


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
