"""The truth: when each message of the sandbox became visible, between two instants of one clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from prober.clock import Instant


@dataclass(frozen=True, slots=True)
class Visible:
    """One message became visible after ``before`` and no later than ``after``.

    ``server`` is ``email``, ``slack`` or ``discord``; ``address`` the mailbox, Slack channel id or Discord channel
    id; ``message_id`` the Message-ID, Slack ts or Discord snowflake.
    """

    server: str
    address: str
    message_id: str
    before: Instant
    after: Instant


KEPT = 500_000
"""How many visibles are remembered, the newest: a sandbox may run for months."""


@dataclass(slots=True)
class Truth:
    """Every :class:`Visible` in the order in which it was told, the newest ``KEPT`` of them."""

    _visibles: deque[Visible] = field(default_factory=lambda: deque(maxlen=KEPT))

    def add(self, visible: Visible) -> None:
        self._visibles.append(visible)

    def __iter__(self) -> Iterator[Visible]:
        return iter(tuple(self._visibles))

    def __len__(self) -> int:
        return len(self._visibles)

    def at(self, address: str) -> tuple[Visible, ...]:
        """What became visible at one address, oldest first."""
        return tuple(visible for visible in self._visibles if visible.address == address)
