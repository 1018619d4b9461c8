"""Log lines about a probe: each with the probe's name, its correlation id and its trace id."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager

import structlog

from prober import stages
from prober.errors import TargetError
from prober.ledger.publishing import ClaimedStep
from prober.ledger.settling import Told
from prober.model import Outcome, Timeliness
from prober.stages import Flow
from prober.trace_ids import correlation_id

log = structlog.get_logger()

GOOD = {Timeliness.ON_TIME, Timeliness.MOOT, Outcome.DELIVERED, Outcome.WITHHELD}
"""Verdicts that nobody need look at; of what is moot the outcome says why."""


def ids(location: str, probe: str, trace: str) -> dict[str, str]:
    """What every line about a probe carries."""
    return {"probe": probe, "correlation_id": correlation_id(location, probe), "trace_id": trace}


def about(location: str, probe: str, trace: str) -> AbstractContextManager[None]:
    """Lines that are written inside, whoever writes them, are about this probe."""
    return structlog.contextvars.bound_contextvars(**ids(location, probe, trace))


async def take(flow: Flow, claimed: ClaimedStep) -> None:
    """Take one step as :func:`prober.stages.take` does, and tell how it ended. Raises what is an error of our own."""
    step = claimed.step
    with about(flow.location, step.probe, claimed.publication.trace_id):
        try:
            ended = await stages.take(flow, claimed)
        except Exception:
            log.exception(
                "A step ended in an error of our own.", action="own_fault", step=step.action, number=step.number
            )
            raise
        if isinstance(ended, TargetError):
            log.warning("A step was not accepted.", action="step_failed", step=step.action.value, number=step.number,
                        result=ended.result.value, status=ended.status, why=ended.title)  # fmt: skip
        else:
            took = ended.answered_at.since(ended.requested_at)
            log.info("A step was accepted.", action="step_accepted", step=step.action.value, number=step.number,
                     status=ended.status, seconds=round(took, 6))  # fmt: skip


def tell_verdicts(location: str, verdicts: Iterable[Told]) -> None:
    """One line for each question that is settled."""
    for told in verdicts:
        facts = {**ids(location, told.probe, told.trace), "scenario": told.scenario, "channel": told.channel,
                 "question": told.question, "verdict": told.verdict.value, "why": told.reason}  # fmt: skip
        if told.verdict in GOOD:
            log.info("A question about a delivery is settled well.", action="verdict", **facts)
        else:
            log.warning("A question about a delivery is settled badly, or void.", action="verdict", **facts)
