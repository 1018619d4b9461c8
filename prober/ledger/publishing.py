"""Stage publish: a step is claimed before it leaves, taken at most once, and its end is put on record."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, case, delete, func, or_, select, text, update

from prober.bounds import PUBLISH_BOUNDS, START_DELAY_BOUNDS, WAYPOINT_BOUNDS
from prober.clock import Instant
from prober.errors import TargetError
from prober.ledger.attaching import attach_learned
from prober.ledger.prepared import Prepared, insert_new
from prober.ledger.slots import note_answer
from prober.ledger.tables import deliveries, instant_of, instant_values, keys, probes, steps, waypoints
from prober.ledger.totals import Rise, raise_totals
from prober.model import (
    Answer,
    Publication,
    PublicationKind,
    PublishResult,
    SlotState,
    Step,
    StepAction,
    StepState,
    Waypoint,
)

_PLANNED, _TAKEN = StepState.PLANNED.value, StepState.TAKEN.value


_WITH_PROBE = select(steps, probes.c.scenario, probes.c.kind, probes.c.publication).join(
    probes, probes.c.id == steps.c.probe_id
)
_ONE_STEP = Prepared(_WITH_PROBE.where(steps.c.probe_id == bindparam("probe"), steps.c.number == bindparam("step")))
# The partial index serves only what spells its condition out: a bound parameter would walk through all of history.
_UNFINISHED = _WITH_PROBE.where(steps.c.location == bindparam("here"), text("steps.state IN ('planned', 'taken')"))
_TAKEN_STEPS = Prepared(_UNFINISHED.where(steps.c.state == _TAKEN))
_BEFORE = steps.alias("before")
_READY = Prepared(
    _UNFINISHED.outerjoin(
        _BEFORE, and_(_BEFORE.c.probe_id == steps.c.probe_id, _BEFORE.c.number == steps.c.after_step)
    ).where(
        steps.c.state == _PLANNED,
        or_(steps.c.after_step.is_(None), _BEFORE.c.result == PublishResult.ACCEPTED.value),
    )
)
_INSERT_WAYPOINTS = Prepared(waypoints.insert())
_FORGET = Prepared(
    delete(waypoints).where(
        waypoints.c.probe_id == bindparam("probe"),
        waypoints.c.name == bindparam("said"),
        waypoints.c.source == bindparam("by"),
    )
)

_SAID_NOTHING = {"result": None, "status": None, "title": "", "detail": "", "correlation_id": ""}
_CLOSE = Prepared(
    update(steps)
    .where(steps.c.probe_id == bindparam("probe"), steps.c.number == bindparam("step"), steps.c.state == _TAKEN)
    .values(
        state=StepState.ANSWERED.value,
        **{
            name: bindparam(f"new_{name}")
            for name in (*_SAID_NOTHING, *instant_values("requested", None), *instant_values("ended", None))
        },
    )
)
_NAME_PUBLICATION = Prepared(
    update(steps)
    .where(steps.c.probe_id == bindparam("probe"), steps.c.publication_id == "")
    .values(publication_id=bindparam("told"))
)
_TAKE = Prepared(
    update(steps)
    .where(steps.c.probe_id == bindparam("probe"), steps.c.number == bindparam("step"), steps.c.state == _PLANNED)
    .values(
        state=_TAKEN,
        taken_by=bindparam("by"),
        taken_wall=bindparam("wall"),
        taken_boottime=bindparam("boottime"),
        taken_boot_id=bindparam("boot"),
        request=bindparam("request"),
    )
)
_REQUESTED = Prepared(
    select(steps.c.location, steps.c.requested_wall).where(steps.c.probe_id == bindparam("probe"), steps.c.number == 0)
)
_MESSAGES = Prepared(
    select(deliveries.c.channel_kind, func.count().label("messages"))
    .where(deliveries.c.probe_id == bindparam("probe"), deliveries.c.step_number == bindparam("step"))
    .group_by(deliveries.c.channel_kind)
)
_HANGS_ON = deliveries.c.step_number.in_(
    select(steps.c.number).where(
        steps.c.probe_id == bindparam("probe"),
        or_(steps.c.number == bindparam("step"), steps.c.after_step == bindparam("step")),
    )
)
_DUE_IN = func.coalesce(deliveries.c.scheduled_time - bindparam("wall"), 0.0) + deliveries.c.within
# A step's end moves the deadlines of the deliveries that hang on it, or on one that waits for it; no others.
_WAKE = Prepared(
    update(deliveries)
    .where(deliveries.c.probe_id == bindparam("probe"), text("deliveries.open = 1"))
    .values(
        dirty=1,
        due_wall=case((_HANGS_ON, bindparam("wall") + _DUE_IN), else_=deliveries.c.due_wall),
        due_boottime=case((_HANGS_ON, bindparam("boottime") + _DUE_IN), else_=deliveries.c.due_boottime),
        due_boot_id=case((_HANGS_ON, bindparam("boot")), else_=deliveries.c.due_boot_id),
    )
)


@dataclass(frozen=True, slots=True)
class ClaimedStep:
    """A step that is now ours alone to take, and what it needs."""

    step: Step
    publication: Publication


@dataclass(frozen=True, slots=True)
class Claimed:
    """What one claim brought: steps to take, how many were too late, and when the next falls due."""

    steps: tuple[ClaimedStep, ...]
    late: int
    next_due: Instant | None


Announce = Callable[[Step, Publication], str]
"""What a step's request will be: method and URL, empty where nobody can tell."""


def announce_nothing(_step: Step, _publication: Publication) -> str:
    """For a target that cannot say beforehand what it will send."""
    return ""


def claim_steps(
    conn: Connection,
    location: str,
    now: Instant,
    taken_by: str,
    limit: int = 64,
    *,
    announce: Announce = announce_nothing,
    patience: float = 0.0,
) -> Claimed:
    """Take what is due off the list, on record with its request before anything leaves. Too late a step is not taken
    but void. For ``patience`` seconds, but not until it is too late, a step is left to others."""
    ready = _ready(conn, location)
    due = [row for row in ready if now.since(_ours_from(row, patience)) >= 0]
    rise = Rise()
    late = [row for row in due if row.after_step is None and now.since(_instant(row, "due")) > row.late_after]
    too_late = {(row.probe_id, row.number) for row in late}
    for row in late:
        _end(conn, row, now, PublishResult.OWN_FAULT, title="not requested in time: the prober was down or held up")
        rise.count("slots_total", {"scenario": row.scenario, "state": SlotState.LATE.value})
        rise.count("publish_requests_total", _labels(row, PublishResult.OWN_FAULT))
    chosen = [row for row in due if (row.probe_id, row.number) not in too_late][:limit]
    # Replicas may choose the same step: it is taken by the one whose update finds it planned.
    ours = [(row, _claimed(row)) for row in chosen]
    taken = [(row, step) for row, step in ours if _take(conn, step, announce, now, taken_by)]
    for row, _ in taken:
        if row.after_step is None:
            rise.count("slots_total", {"scenario": row.scenario, "state": SlotState.STARTED.value})
            delay = max(0.0, now.since(_instant(row, "due")))
            rise.observe("start_delay_seconds", {"scenario": row.scenario}, delay, START_DELAY_BOUNDS)
    raise_totals(conn, location, now.wall, rise)
    gone = too_late | {(row.probe_id, row.number) for row in chosen}
    waiting = [_ours_from(row, patience) for row in ready if (row.probe_id, row.number) not in gone]
    next_due = max(waiting, key=now.since, default=None)
    return Claimed(tuple(step for _, step in taken), len(late), next_due)


def _ours_from(row: Row[Any], patience: float) -> Instant:
    due = _instant(row, "due")
    return due.plus(min(patience, row.late_after / 2)) if patience else due


def _take(conn: Connection, claimed: ClaimedStep, announce: Announce, now: Instant, taken_by: str) -> bool:
    step = claimed.step
    try:
        request = announce(step, claimed.publication)
    except TargetError:
        request = ""  # it will not leave: whoever takes it is told why
    about = {"probe": step.probe, "step": step.number, "by": taken_by, "wall": now.wall, "boottime": now.boottime,
             "boot": now.boot_id, "request": request[:2000]}  # fmt: skip
    return _TAKE.write(conn, about) > 0


def record_answer(conn: Connection, step: Step, answer: Answer) -> None:
    """The step was accepted: its instants, what was learned, and the sightings that were waiting for it."""
    row = _step_row(conn, step)
    counts = _close(
        conn,
        row,
        answer.requested_at,
        answer.answered_at,
        result=PublishResult.ACCEPTED.value,
        status=answer.status,
        correlation_id=answer.correlation_id[:200],
    )
    if answer.publication_id:
        _NAME_PUBLICATION.write(conn, {"probe": step.probe, "told": answer.publication_id})
    if answer.learned:
        rows = [
            {"value": key.value, "probe_id": step.probe, "kind": key.kind.value, "channel": key.channel}
            for key in answer.learned
        ]
        insert_new(conn.dialect.name, keys).write_each(conn, rows)
        attach_learned(conn, row.location, tuple(key.value for key in answer.learned), answer.answered_at)
    add_waypoints(conn, step.probe, None, answer.waypoints)
    if counts:
        _finish(conn, row, PublishResult.ACCEPTED, answer.requested_at, answer.answered_at)
        _count_messages(conn, row)


def record_failure(conn: Connection, step: Step, error: TargetError, now: Instant) -> None:
    """The step did not end as accepted: what is known of it, and the steps that cannot be taken any more."""
    row = _step_row(conn, step)
    ended = error.answered_at or now
    counts = _close(
        conn,
        row,
        error.requested_at,
        ended,
        result=error.result.value,
        status=error.status,
        title=error.title[:500],
        detail=error.detail[:2000],
        correlation_id=error.correlation_id[:200],
    )
    if counts:
        _skip_followers(conn, row, error.result, ended, error.title)
        _finish(conn, row, error.result, error.requested_at, error.answered_at)


def record_interrupted(conn: Connection, location: str, now: Instant, lives: Callable[[str, Instant], bool]) -> int:
    """Steps that a dead process had taken: whether they left is unknown, and they are never taken again.

    ``lives`` says of a process's name, and of when it took a step, whether the end of that step may still come.
    """
    taken = _TAKEN_STEPS.all(conn, {"here": location})
    dead = [row for row in taken if not lives(row.taken_by, _instant(row, "taken"))]
    for row in dead:
        _end(conn, row, now, PublishResult.INTERRUPTED, title="the prober ended before the answer was on record")
        rise = Rise()
        rise.count("publish_requests_total", _labels(row, PublishResult.INTERRUPTED))
        raise_totals(conn, location, now.wall, rise)
    return len(dead)


def add_waypoints(conn: Connection, probe: str, delivery: int | None, points: tuple[Waypoint, ...]) -> None:
    """Put time-stamped facts of a probe (or of one of its deliveries) on record."""
    rows = [
        {"probe_id": probe, "delivery_id": delivery, "name": p.name, "at": p.at, "resolution": p.resolution,
         "source": p.source, "detail": p.detail}
        for p in points
    ]  # fmt: skip
    if rows:
        _INSERT_WAYPOINTS.write_each(conn, rows)
        _count_waypoints(conn, probe, points)


def unpublished(conn: Connection, location: str) -> tuple[str, ...]:
    """The probes whose first step is planned and was taken by nobody."""
    rows = conn.execute(_UNFINISHED.where(steps.c.state == _PLANNED, steps.c.after_step.is_(None)), {"here": location})
    return tuple(row.probe_id for row in rows)


def _count_waypoints(conn: Connection, probe: str, points: tuple[Waypoint, ...]) -> None:
    """How long after the request each lies, by its own clock; of a request that is not on record nothing is known."""
    first = _REQUESTED.first(conn, {"probe": probe})
    if first is None or first.requested_wall is None:
        return
    rise = Rise()
    for point in points:
        after = max(0.0, point.at - first.requested_wall)
        rise.observe("waypoint_seconds", {"waypoint": point.name}, after, WAYPOINT_BOUNDS)
    raise_totals(conn, first.location, first.requested_wall, rise)


_PUBLICATION_ID = Prepared(
    select(steps.c.publication_id).where(steps.c.probe_id == bindparam("probe"), steps.c.publication_id != "").limit(1)
)


def publication_id_of(conn: Connection, probe: str) -> str:
    """The target's id for a probe's publication, empty while no answer told it."""
    row = _PUBLICATION_ID.first(conn, {"probe": probe})
    return "" if row is None else str(row.publication_id)


def record_claims(conn: Connection, probe: str, points: tuple[Waypoint, ...]) -> None:
    """Put what the target says now on record, in place of what it said of the same things before."""
    _FORGET.write_each(conn, [{"probe": probe, "said": point.name, "by": point.source} for point in points])
    add_waypoints(conn, probe, None, points)


def publication_of(text: str) -> Publication:
    """A publication from its JSON on record."""
    fields: dict[str, Any] = json.loads(text)
    fields["kind"] = PublicationKind(fields["kind"])
    fields["target_channels"] = tuple(fields["target_channels"])
    return Publication(**fields)


def _ready(conn: Connection, location: str) -> list[Row[Any]]:
    """Planned steps that wait for nothing but their time."""
    return list(_READY.all(conn, {"here": location}))


def _claimed(row: Row[Any]) -> ClaimedStep:
    step = Step(row.probe_id, row.number, StepAction(row.action), row.recipient, row.publication_id)
    return ClaimedStep(step, publication_of(row.publication))


def _instant(row: Row[Any], name: str) -> Instant:
    instant = instant_of(row, name)
    assert instant is not None  # noqa: S101 - written with the row
    return instant


def _step_row(conn: Connection, step: Step) -> Row[Any]:
    row: Row[Any] = _ONE_STEP.first(conn, {"probe": step.probe, "step": step.number})
    return row


def _close(conn: Connection, row: Row[Any], requested_at: Instant | None, ended: Instant, **said: object) -> bool:
    """Put the end of a taken step on record; False when it has one already, which then stays."""
    values = {**_SAID_NOTHING, **said, **instant_values("requested", requested_at), **instant_values("ended", ended)}
    about = {f"new_{name}": value for name, value in values.items()}
    return _CLOSE.write(conn, {"probe": row.probe_id, "step": row.number, **about}) > 0


def _end(conn: Connection, row: Row[Any], now: Instant, result: PublishResult, *, title: str) -> None:
    """End a step without an answer, and those that wait for it."""
    state = StepState.SKIPPED if row.state == _PLANNED else StepState.ANSWERED
    conn.execute(
        update(steps)
        .where(steps.c.probe_id == row.probe_id, steps.c.number == row.number, steps.c.state == row.state)
        .values(state=state.value, result=result.value, title=title, **instant_values("ended", now))
    )
    _skip_followers(conn, row, result, now, title)
    _wake_deliveries(conn, row, now)


def _skip_followers(conn: Connection, row: Row[Any], result: PublishResult, ended: Instant, title: str) -> None:
    """Steps that wait for one that was not accepted share its end: there is nothing that they could act on."""
    conn.execute(
        update(steps)
        .where(steps.c.probe_id == row.probe_id, steps.c.after_step == row.number, steps.c.state == _PLANNED)
        .values(state=StepState.SKIPPED.value, result=result.value, title=title[:500], **instant_values("ended", ended))
    )


def _labels(row: Row[Any], result: PublishResult) -> dict[str, str]:
    return {"scenario": row.scenario, "kind": row.kind, "result": result.value}


def _finish(
    conn: Connection, row: Row[Any], result: PublishResult, requested_at: Instant | None, answered_at: Instant | None
) -> None:
    """Count the end of the step and let its deliveries be judged."""
    rise = Rise()
    rise.count("publish_requests_total", _labels(row, result))
    if requested_at is not None and answered_at is not None:
        labels = {"scenario": row.scenario, "kind": row.kind}
        rise.observe("publish_duration_seconds", labels, answered_at.since(requested_at), PUBLISH_BOUNDS)
    wall = (answered_at or requested_at or _instant(row, "taken")).wall
    raise_totals(conn, row.location, wall, rise)
    note_answer(conn, row.location, result)
    _wake_deliveries(conn, row, requested_at or _instant(row, "taken"))


def _count_messages(conn: Connection, row: Row[Any]) -> None:
    """One message for each delivery that hangs on an accepted step, by the kind of its channel."""
    if row.action == StepAction.CANCEL.value:
        return
    sent = _MESSAGES.all(conn, {"probe": row.probe_id, "step": row.number})
    rise = Rise()
    for kind, count in sent:
        rise.count("messages_sent_total", {"provider": kind}, count)
    raise_totals(conn, row.location, _instant(row, "taken").wall, rise)


def _wake_deliveries(conn: Connection, row: Row[Any], origin: Instant) -> None:
    """Mark the probe's deliveries as changed, those of this step due again at their deadline at the latest."""
    _WAKE.write(conn, {"probe": row.probe_id, "step": row.number, "wall": origin.wall, "boottime": origin.boottime,
                       "boot": origin.boot_id})  # fmt: skip
