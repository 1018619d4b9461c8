"""Seam: what a target must do. Adapters know the nouns, never each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from prober.clean_up import Removal
from prober.model import Answer, Publication, Step, Waypoint


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
class Withdrawing(Protocol):
    """What a target may be able to do besides: take a publication back."""

    async def withdraw(self, publication_id: str) -> Removal:
        """Take the publication of this id back, which may be repeated; how it ended, for good.

        A target that knows no such publication has none (``gone``), one that has finished with it refuses
        (``too_late``), and one that lets us withdraw nothing denies it. Raises TargetError: to be tried again later.
        """
