"""Seam: what a target must do. Adapters know the nouns, never each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from prober.clean_up import PublishedPage, Removal
from prober.findings import Examined
from prober.model import Answer, ChannelKind, Publication, Step, Waypoint
from prober.safety import Inventory, TargetChannel, TargetSubscriber


class Target(Protocol):
    """A publishing system, entered as an async context manager by whoever assembles it."""

    async def take(self, step: Step, publication: Publication) -> Answer:
        """Send the step's request once and never again; return what was accepted.

        Raises Refused, Unanswered, Unreachable or OwnFault.
        """

    async def claims(self, publication_id: str) -> tuple[Waypoint, ...]:
        """What the target says about a publication's delivery: waypoints on its own clock, never proof.

        Raises Refused, Unanswered, Unreachable or OwnFault.
        """

    async def health(self) -> Mapping[str, bool | None]:
        """The target's dependencies by name, as it tells them: True up, False down, None neither. Empty if it tells
        nothing. Expensive for the target: asked once a minute at most.

        Raises Refused, Unanswered, Unreachable or OwnFault.
        """


@runtime_checkable
class Announcing(Protocol):
    """A target that can say beforehand what a step's request will be. Optional."""

    def announce(self, step: Step, publication: Publication) -> str:
        """Method and URL, such as ``POST https://publishing.example/api/v1/alerts``, without query and secrets. Pure.

        Raises OwnFault for what must not leave us.
        """


@runtime_checkable
class Withdrawing(Protocol):
    """What a target may be able to do besides: take a publication back."""

    async def withdraw(self, publication_id: str) -> Removal:
        """Take the publication of this id back, which may be repeated; how it ended, for good.

        A target that knows no such publication has none (``gone``), one that has finished with it refuses
        (``too_late``), and one that lets us withdraw nothing denies it. Raises TargetError: to be tried again later.
        """


@runtime_checkable
class Recounting(Withdrawing, Protocol):
    """A target that can tell which publications it has, so that those of dead runs are withdrawn, too. Optional."""

    async def published(self, position: str) -> PublishedPage:
        """One bounded page of those that may still be withdrawn; '' begins. Empty where it lists none.

        Raises TargetError.
        """


@runtime_checkable
class Listing(Protocol):
    """A target that can tell which channels and subscribers it has. Optional: without it they stay unverified."""

    async def inventory(self) -> Inventory:
        """What it lists now. Raises Refused, Unanswered, Unreachable or OwnFault."""


@runtime_checkable
class Examinable(Protocol):
    """A target that can be examined beyond being reached. Optional."""

    async def examine(self) -> Examined:
        """Reachability, credentials, contract, health and clock: asks, and changes nothing. Raises nothing."""


@runtime_checkable
class Furnishing(Listing, Protocol):
    """A target in which test channels and subscribers can be made. Optional.

    Each asynchronous method raises Refused, Unanswered, Unreachable or OwnFault.
    """

    def refuses(self, address: str) -> str:
        """Why the target would never take a mail address, in a few words; empty for one that it may take. Pure."""

    async def make_channel(self, name: str, kind: ChannelKind, place: str) -> TargetChannel | None:
        """A new channel that feeds ``place`` (empty for mail); None when the name is taken."""

    async def make_subscriber(self, address: str, channel: str) -> TargetSubscriber | None:
        """A new subscriber of one channel; None when the address is taken."""

    async def subscribe(self, subscriber: TargetSubscriber, channel: str) -> None:
        """Let a subscriber get one more channel."""
