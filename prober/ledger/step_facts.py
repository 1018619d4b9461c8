"""What is on record about steps, as the judging sees it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from prober.correlate import StepFact
from prober.ledger.prepared import Prepared
from prober.ledger.tables import instant_of, steps
from prober.model import PublishResult, StepState

_STEPS = Prepared(select(steps).where(steps.c.probe_id.in_(bindparam("probes", expanding=True))))


def step_facts(conn: Connection, probes: Collection[str]) -> Mapping[tuple[str, int], StepFact]:
    """The steps of these probes by probe and number.

    One that was skipped shares the end of the step before it, and the instants from which that end counts.
    """
    rows = {(row.probe_id, row.number): row for row in _STEPS.all(conn, {"probes": list(probes)})}
    return {key: _fact(row, rows) for key, row in rows.items()}


def _fact(row: Row[Any], rows: Mapping[tuple[str, int], Row[Any]]) -> StepFact:
    asked = row
    while asked.state == StepState.SKIPPED and asked.after_step is not None:
        asked = rows[asked.probe_id, asked.after_step]
    return StepFact(
        number=row.number,
        state=StepState(row.state),
        result=PublishResult(row.result) if row.result else None,
        taken_at=instant_of(asked, "taken"),
        requested_at=instant_of(asked, "requested"),
        ended_at=instant_of(asked, "ended"),
    )
