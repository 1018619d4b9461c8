"""The record of every request that changes something outside: who, what, when, and the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from prober.acts import Act
from prober.clock import Clock
from prober.errors import LedgerError, TargetError, Unreadable
from prober.ledger import acting
from prober.ledger.ledger import Ledger
from prober.stages import Flow

log = structlog.get_logger()

UNTOLD = "not told"
"""The answer to what a request asked for beside other things, and of which its answer says nothing."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Who writes, and where. Without a ledger (a sandbox that is thrown away) nothing is kept."""

    ledger: Ledger | None
    clock: Clock
    location: str
    by: str

    @asynccontextmanager
    async def asking(self, kind: str, place: str, subjects: Mapping[str, str]) -> AsyncIterator[dict[str, str]]:
        """Put on record what is about to be asked for, subject -> probe ('' : none), then how each was answered.

        The answers go into the mapping that is yielded. A refusal is one; after anything else it stays open what was
        done. Raises LedgerError: then nothing was asked.
        """
        answers: dict[str, str] = {}
        if self.ledger is None:
            yield answers
            return
        now = self.clock.now().wall
        wanted = [Act(kind, place, subject, probe, self.by, now) for subject, probe in subjects.items()]
        numbers = await self.ledger.write(acting.begin, self.location, wanted)
        try:
            yield answers
        except (TargetError, Unreadable) as error:
            await self._end(numbers, wanted, answers, f"failed: {error}")
            raise
        await self._end(numbers, wanted, answers, UNTOLD)

    async def _end(
        self, numbers: tuple[int, ...], wanted: list[Act], answers: Mapping[str, str], otherwise: str
    ) -> None:
        assert self.ledger is not None  # noqa: S101 - asked for above
        told = {number: answers.get(act.subject, otherwise) for number, act in zip(numbers, wanted, strict=True)}
        await self.ledger.write(acting.end, told, self.clock.now().wall)


def audit_of(flow: Flow) -> Audit:
    """The record of one process."""
    return Audit(flow.ledger, flow.clock, flow.location, flow.taken_by)


async def record_last_acts(ledger: Ledger, location: str, by: str, who: Iterable[object]) -> None:
    """Put on record what these still did, when none of them can do anything any more."""
    try:
        await acting.record_acts(ledger, location, by, who, whole=True)
    except LedgerError as error:
        log.error("What was asked of others is not on record.", action="unaudited", why=str(error))
