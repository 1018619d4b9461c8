"""Up to where a bucket has been read, where keys are in no order and S3's times are whole seconds. Pure.

Objects last changed before ``floor`` are behind; from there on each one that was read is remembered by its key.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

MARGIN: Final = 600
"""Seconds by which an object may appear later than a newer one: S3 stamps the beginning of a put, not its end."""

MOST_KNOWN: Final = 10_000
"""Keys that are remembered; beyond it the margin shrinks, but never to less than the newest second."""

LIFECYCLE: Final = 86400.0
"""Seconds within which no lifecycle rule can have removed an object: its shortest term is a day."""


def fingerprint(key: str) -> str:
    """A key in 16 characters, however long it is."""
    return urlsafe_b64encode(hashlib.blake2b(key.encode(), digest_size=12).digest()).decode()


@dataclass(frozen=True, slots=True)
class Position:
    """``known`` are fingerprints by second, from ``floor`` on; ``read_at`` is our wall time of the last read."""

    place: str
    floor: int
    known: Mapping[int, frozenset[str]]
    read_at: float

    def names(self) -> frozenset[str]:
        """The fingerprints of everything that was read lately."""
        return frozenset().union(*self.known.values())

    def lasts(self, now: float) -> bool:
        """Whether everything that came since the last read must still be in the bucket."""
        return abs(now - self.read_at) < LIFECYCLE

    def advanced(self, objects: Iterable[tuple[str, int]], read_at: float) -> Position:
        """The position after these objects (key, second) were read, too."""
        known = {second: set(names) for second, names in self.known.items()}
        newest = max(known, default=self.floor)
        for key, modified in objects:
            newest = max(newest, modified)
            if modified >= self._floor_below(newest, read_at):
                known.setdefault(modified, set()).add(fingerprint(key))
        floor, number = self._floor_below(newest, read_at), 0
        kept: dict[int, frozenset[str]] = {}
        for second in sorted((second for second in known if second >= floor), reverse=True):
            number += len(known[second])
            if kept and number > MOST_KNOWN:
                floor = second + 1
                break
            kept[second] = frozenset(known[second])
        return Position(self.place, floor, kept, read_at)

    def _floor_below(self, newest: int, read_at: float) -> int:
        # An object from the future, of a clock that was wrong once, must not hide those that come after it.
        return max(self.floor, min(newest, int(read_at)) - MARGIN)

    def saved(self) -> str:
        """The cursor."""
        known = {str(second): sorted(names) for second, names in sorted(self.known.items())}
        form = {"version": 1, "place": self.place, "floor": self.floor, "known": known, "read_at": self.read_at}
        return json.dumps(form, separators=(",", ":"))


def beginning(place: str, objects: Iterable[tuple[str, int]], read_at: float) -> Position:
    """The position from now on: all that is there is behind."""
    return Position(place, 0, {}, read_at).advanced(objects, read_at)


def load_position(cursor: str | None, place: str) -> Position | None:
    """The position in a cursor; None for one that is missing, of another place, or cannot be understood."""
    try:
        form: Any = json.loads(cursor or "{}")
        if form["version"] != 1 or form["place"] != place:
            return None
        known = {int(second): frozenset(map(str, names)) for second, names in form["known"].items()}
        return Position(place, int(form["floor"]), known, float(form["read_at"]))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
