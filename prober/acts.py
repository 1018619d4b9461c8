"""Requests by which an adapter changes something outside of its own accord: told afterwards, to be put on record."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from prober.clock import Clock, Instant
from prober.errors import TargetError, Unreadable

GATHERED = 60.0
"""Seconds within which what is done again is gathered: messages are taken off a queue by the thousand."""


@dataclass(frozen=True, slots=True)
class Act:
    """One request that changes something outside. ``began`` and ``ended`` are wall seconds.

    ``place`` says where: a channel, an observer, the target, or method and URL. ``answer`` is '' while none is on
    record: then it may have been done or not. ``number`` says how many that differ only in time are told as one.
    """

    kind: str
    place: str
    subject: str
    probe: str = ""
    by: str = ""
    began: float = 0.0
    ended: float | None = None
    answer: str = ""
    number: int = 1


class Acts:
    """What one adapter did and is not on record yet; each method may be called in any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, ...], Act] = {}
        self._taken: dict[tuple[str, ...], Instant] = {}

    @contextmanager
    def asking(self, kind: str, place: str, subject: str, number: int = 1) -> Iterator[list[str]]:
        """Note what is asked for inside, and its answer: the words that are put into the list that is yielded.

        A refusal is an answer; after anything else that is raised it stays open what was done.
        """
        began, words = self._clock.now().wall, list[str]()
        act = Act(kind, place, subject, began=began, number=number)
        try:
            yield words
        except (TargetError, Unreadable) as error:
            self.add([replace(act, ended=self._clock.now().wall, answer=f"failed: {error}")])
            raise
        except BaseException:
            self.add([act])
            raise
        self.add([replace(act, ended=self._clock.now().wall, answer=", ".join(words))])

    def add(self, acts: Iterable[Act]) -> None:
        """Keep these until they are taken; those that differ only in time and number become one."""
        with self._lock:
            for act in acts:
                key = (act.kind, act.place, act.subject, act.answer)
                self._kept[key] = _together(self._kept[key], act) if key in self._kept else act

    def take(self, *, whole: bool = False) -> tuple[Act, ...]:
        """What is to be put on record now: what is new at once, what is done again and again once in GATHERED seconds.

        ``whole``: everything.
        """
        now = self._clock.now()
        with self._lock:
            self._taken = {key: at for key, at in self._taken.items() if now.since(at) < GATHERED}
            keys = [key for key in self._kept if whole or key not in self._taken]
            self._taken |= dict.fromkeys(keys, now)
            return tuple(self._kept.pop(key) for key in keys)


@runtime_checkable
class Acting(Protocol):
    """A target, observer or witness that acts of its own accord: it fetches a token, empties a queue."""

    acts: Acts


def place_of(method: str, url: str) -> str:
    """Method and URL without credentials and query."""
    parts = urlsplit(url)
    return f"{method} {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _together(one: Act, other: Act) -> Act:
    ends = [each.ended for each in (one, other) if each.ended is not None]
    began, number = min(one.began, other.began), one.number + other.number
    return replace(one, began=began, ended=max(ends, default=None), number=number)
