"""Whether what reads show was pushed too: where it systematically was not, somebody else takes the events. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from prober.clock import Instant

_PATIENCE: Final = 10.0
"""Seconds after which a message that a read has shown should have been pushed as well."""

_LATEST: Final = 20
_SUSPICIOUS: Final = 3
_SHARE: Final = 0.2
_MOST_AWAITED: Final = 1_000


class PushRecord:
    """The latest messages that could have been pushed, and which were.

    A second consumer of one app takes each event with a chance of a half or less, and never shows itself after
    Slack's hello; a lost event now and then is no consumer.
    """

    def __init__(self) -> None:
        self._latest: deque[bool] = deque(maxlen=_LATEST)
        self._awaited: OrderedDict[tuple[str, str], Instant] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def pushed(self, key: tuple[str, str]) -> None:
        """A message was pushed."""
        self._awaited.pop(key, None)
        if key not in self._known:
            self._latest.append(True)
            self._know(key)

    def shown(self, key: tuple[str, str], at: Instant) -> None:
        """A read showed a message while pushes flowed."""
        if key not in self._known and len(self._awaited) < _MOST_AWAITED:
            self._awaited.setdefault(key, at)

    def interrupted(self) -> None:
        """Pushes did not flow: what was not pushed meanwhile says nothing."""
        self._awaited.clear()

    def trouble(self, now: Instant) -> str:
        """What is wrong, in a sentence with the mend; '' when nothing is."""
        for key in [key for key, shown in self._awaited.items() if now.since(shown) >= _PATIENCE]:
            del self._awaited[key]
            self._latest.append(False)
            self._know(key)
        missed = self._latest.count(False)
        if missed < _SUSPICIOUS or missed < _SHARE * len(self._latest):
            return ""
        return (
            f"{missed} of the last {len(self._latest)} messages were never pushed: somebody else seems to take this "
            "Slack app's events, or it lacks the events message.channels and message.groups; give each prober its own "
            "app"
        )

    def _know(self, key: tuple[str, str]) -> None:
        self._known[key] = None
        if len(self._known) > _MOST_AWAITED:
            self._known.popitem(last=False)
