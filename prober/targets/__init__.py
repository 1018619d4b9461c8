"""Seam: what a target must do. Adapters know the nouns, never each other."""

from __future__ import annotations

from typing import Protocol

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
