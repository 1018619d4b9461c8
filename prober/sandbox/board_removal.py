"""Taking messages off the in-process world's boards, as :class:`prober.observers.Removing` says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prober.clean_up import Lying, Removal
from prober.clock import Instant
from prober.errors import Unreadable
from prober.model import Channel, Message
from prober.sandbox.boards import Board, Posted, message_id

PAGE = 50
"""Messages that one look shows."""


class BoardRemoval:
    """What a :class:`prober.sandbox.inprocess.WorldObserver` can do besides reading."""

    removals_per_minute: float | None = None
    looks_per_minute: float | None = None
    _world_id: str
    _boards: list[tuple[Channel, Board]]

    async def remove(self, channel: str, message_ids: Sequence[str]) -> Mapping[str, Removal]:
        """As the seam says."""
        self._fail_if_blind()
        board = next(board for its, board in self._boards if its.name == channel)
        board.asked += message_ids
        there = {message_id(self._world_id, board.address, posted): posted.number for posted in board.since(0)}
        ends = {}
        for name in message_ids:
            if name not in there:
                ends[name] = Removal.GONE
            elif board.locked:
                ends[name] = Removal.DENIED
            else:
                board.removed.add(there[name])
                ends[name] = Removal.REMOVED
        return ends

    async def lying(self, position: str, before: Instant) -> Lying:
        """As the seam says; the position counts what was shown."""
        self._fail_if_blind()
        start = int(position or 0)
        lying = [(channel, posted) for channel, posted in self._lying() if posted.at.since(before) <= 0]
        shown = tuple(self._found(channel, posted, before) for channel, posted in lying[start : start + PAGE])
        return Lying(shown, (), str(start + PAGE) if len(lying) > start + PAGE else "")

    def rests_on(self, cursor: str | None, channel: str, message_id: str) -> bool:
        """As the seam says: a board is read by numbers, which stay."""
        return False

    def _lying(self) -> Iterable[tuple[Channel, Posted]]:
        for channel, board in self._boards:
            yield from ((channel, posted) for posted in board.since(0))

    def _found(self, channel: Channel, posted: Posted, seen: Instant) -> Message:
        raise NotImplementedError

    def _fail_if_blind(self) -> None:
        raise Unreadable("unreachable", "the sandbox's server is down")
