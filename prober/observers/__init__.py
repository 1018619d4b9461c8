"""Seam: what an observer must do. Adapters know the nouns, never each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from prober.clean_up import Lying, Removal
from prober.clock import Instant
from prober.model import Batch, Control, Hearsay, Wake, Waypoint


class Observer(Protocol):
    """One account through which channels are read. It connects once and recovers by itself.

    ``poll`` is the period in seconds at which it wants to be read while deliveries are open, None where pushes and
    aligned reads are enough; ``reads_per_minute`` is how many complete reads its provider allows, None for no limit.
    ``push_trouble`` says in a sentence why pushes do not flow as they should, '' when they do or none are wanted.
    ``channels`` are the names of the channels that it reads. ``wait`` may be cancelled
    without losing a push: what was not returned comes with the next call.
    """

    name: str
    channels: tuple[str, ...]
    poll: float | None
    reads_per_minute: float | None

    @property
    def push_trouble(self) -> str: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def wait(self, until: Instant) -> Wake:
        """Return when something may be new, or at ``until``. A lost connection is a reason to read."""

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        """Read completely: everything after ``cursor`` (None: from now on), never told what to look for.

        A place that is read for the first time also shows what came after ``since`` and is still there, as far as
        its provider tells when: that proves presence, and covers nothing from before the read.
        Raises Unreadable when the read would not have shown what is there; a channel of which that is true while
        others can be read is told in the batch instead.
        """


@runtime_checkable
class Controlling(Protocol):
    """What an observer may be able to do besides: post a message of its own through the same provider.

    It proves sight and permission, bounds the provider's clock and shows the provider's own delay.
    """

    async def control(self, channel: str) -> Control:
        """Post a control message to the channel of this name. Raises Unreadable."""


@runtime_checkable
class Removing(Protocol):
    """What an observer may be able to do besides: remove messages from its channels.

    ``removals_per_minute`` is how many messages its provider lets us remove, ``looks_per_minute`` how many pages it
    shows without any harm to the reads that measure; None for no limit.
    """

    removals_per_minute: float | None
    looks_per_minute: float | None

    async def remove(self, channel: str, message_ids: Sequence[str]) -> Mapping[str, Removal]:
        """Remove messages by :attr:`prober.model.Message.id`, none that was not named; how it ended, for each.

        Removing twice is harmless. What is missing in the answer may be tried again later. Raises Unreadable when
        the provider cannot be reached now, wants to be left alone, or refuses the account.
        """

    async def lying(self, position: str, before: Instant) -> Lying:
        """One bounded page of what became visible before an instant, in any order; '' begins. Raises Unreadable."""

    def rests_on(self, cursor: str | None, channel: str, message_id: str) -> bool:
        """Whether a read from this cursor, or from one after it, may need the message as its anchor. Pure."""


class Witness(Protocol):
    """Tells what a provider says of mail on its way, to whatever address: waypoints, never proof."""

    name: str

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def hear(self) -> tuple[Hearsay, ...]:
        """What is there now, without waiting; what is not forgotten comes again. Raises Unreadable."""

    async def forget(self, heard: Sequence[Hearsay]) -> int:
        """These are on record; returns how many stay and come again. Raises Unreadable; then all do."""

    async def suppressed(self, address: str) -> Waypoint | None:
        """Since when and why the provider holds back all mail to an address; None when it does not, or will not say.

        Raises Unreadable.
        """
