"""Stage sweep: what is to be removed, planned once, tried until it has ended, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, bindparam, exists, func, or_, select, text, update

from prober.clean_up import CleanUpKind, Ended, Keeping, Removal, due_after, due_since, ended
from prober.ledger.clean_up_table import clean_ups
from prober.ledger.dialect import insert
from prober.ledger.tables import deliveries, keys, probes, sightings, steps
from prober.ledger.totals import Rise, raise_totals
from prober.model import Outcome, Timeliness

MAX_PASS = 500
"""Probes, and sightings, whose clean-ups one pass plans at the most."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something to be removed from ``due`` on (wall seconds); ``probe`` is empty where the ledger knows of none."""

    kind: CleanUpKind
    identity: str
    channel: str
    subject: str
    probe: str
    due: float


@dataclass(frozen=True, slots=True)
class Found:
    """Something of ours that lies on a channel ('' : a publication, in the target): its keys (none for a control
    message), and its age's beginning."""

    kind: CleanUpKind
    identity: str
    channel: str
    subject: str
    keys: tuple[str, ...]
    since: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What can be planned now, and the rows from which it was."""

    wanted: tuple[Wanted, ...]
    probes: tuple[str, ...]
    sightings: tuple[int, ...]


_OPEN = exists().where(deliveries.c.probe_id == bindparam("probe"), deliveries.c.open == 1)
_other = deliveries.alias("other")
_SETTLED_PROBES = (
    select(probes.c.id)
    .where(
        probes.c.location == bindparam("location"),
        text("probes.swept = 0"),
        ~exists().where(deliveries.c.probe_id == probes.c.id, deliveries.c.open == 1),
    )
    .order_by(probes.c.planned_wall)
    .limit(MAX_PASS)
)
_SETTLED_SIGHTINGS: Select[Any] = (
    select(
        sightings.c.id,
        sightings.c.identity,
        sightings.c.channel,
        sightings.c.message_id,
        sightings.c.upper_wall,
        deliveries.c.probe_id,
    )
    .select_from(sightings)
    .outerjoin(deliveries, deliveries.c.id == sightings.c.delivery_id)
    .where(
        sightings.c.location == bindparam("location"),
        text("sightings.sweep = 1"),
        or_(
            deliveries.c.id.is_(None),
            ~exists().where(_other.c.probe_id == deliveries.c.probe_id, _other.c.open == 1),
        ),
    )
    .order_by(sightings.c.id)
    .limit(MAX_PASS)
)


def plannable(conn: Connection, location: str, keeping: Keeping, *, withdraws: bool) -> Plan:
    """What of the settled probes is not planned for removal yet, publications where the target ``withdraws`` them."""
    about = {"location": location}
    names = tuple(conn.execute(_SETTLED_PROBES, about).scalars())
    rows = conn.execute(_SETTLED_SIGHTINGS, about).all()
    ends = _ends(conn, {*names, *(row.probe_id for row in rows if row.probe_id)})
    published = _publications(conn, names, ends, keeping) if withdraws else ()
    wanted = (*published, *(_message(row, ends, keeping) for row in rows))
    return Plan(wanted, names, tuple(row.id for row in rows))


def plan_clean_ups(conn: Connection, location: str, keeping: Keeping, *, withdraws: bool) -> bool:
    """Put on record what will be removed, and when; returns whether there may be more to plan."""
    plan = plannable(conn, location, keeping, withdraws=withdraws)
    _put(conn, location, plan.wanted)
    if plan.probes:
        conn.execute(update(probes).where(probes.c.id.in_(plan.probes)).values(swept=1))
    if plan.sightings:
        conn.execute(update(sightings).where(sightings.c.id.in_(plan.sightings)).values(sweep=2))
    return MAX_PASS in {len(plan.probes), len(plan.sightings)}


def plan_found(conn: Connection, location: str, found: Sequence[Found], keeping: Keeping, now: float) -> int:
    """Put on record what a look at the channels found and may go by now; returns how much that is."""
    return _put(conn, location, unplanned(conn, location, found, keeping, now))


def unplanned(
    conn: Connection, location: str, found: Sequence[Found], keeping: Keeping, now: float
) -> tuple[Wanted, ...]:
    """What of it may go by now and has no clean-up; reads only."""
    known = _known(conn, location, found)
    wanted = []
    for each in found:
        if (each.identity, each.subject) in known:
            continue
        due = _due(conn, each, keeping)
        if due is not None and due[1] <= now:
            kind = CleanUpKind.MESSAGE if due[0] and each.identity else each.kind
            wanted.append(Wanted(kind, each.identity, each.channel, each.subject, *due))
    return tuple(wanted)


def due_clean_ups(
    conn: Connection, location: str, now: float, identities: Sequence[str], limit: int
) -> tuple[Row[Any], ...]:
    """At most ``limit`` (-1: all) clean-ups whose time has come on these channels ('' : publications), oldest first."""
    query = (
        select(clean_ups)
        .where(
            clean_ups.c.location == location,
            text("clean_ups.result = ''"),
            clean_ups.c.due <= now,
            clean_ups.c.identity.in_(identities),
        )
        .order_by(clean_ups.c.due, clean_ups.c.id)
    )
    return tuple(conn.execute(query if limit < 0 else query.limit(limit)).all())


def end_clean_ups(conn: Connection, location: str, ends: Mapping[int, Removal], now: float) -> int:
    """Put on record how clean-ups ended, each once; returns how many were still open."""
    rise = Rise()
    rows = {row.id: row for row in conn.execute(select(clean_ups).where(clean_ups.c.id.in_(ends))).all()}
    for number, removal in ends.items():
        still_open = and_(clean_ups.c.id == number, clean_ups.c.result == "")
        if conn.execute(update(clean_ups).where(still_open).values(result=removal.value, ended=now)).rowcount:
            labels = {"channel": rows[number].channel, "kind": rows[number].kind, "result": removal.value}
            rise.count("clean_ups_total", labels)
    raise_totals(conn, location, now, rise)
    return int(sum(rise.amounts.values()))


def put_off(conn: Connection, until: Mapping[int, float], *, attempted: bool) -> None:
    """Try these again at their time; ``attempted`` counts this time."""
    for number, due in until.items():
        values = {"due": due, "attempts": clean_ups.c.attempts + int(attempted)}
        conn.execute(update(clean_ups).where(clean_ups.c.id == number, clean_ups.c.result == "").values(values))


def backlog(conn: Connection, location: str, now: float) -> dict[str, int]:
    """How many clean-ups are due and not done, by channel ('' : publications)."""
    query = (
        select(clean_ups.c.channel, func.count())
        .where(clean_ups.c.location == location, text("clean_ups.result = ''"), clean_ups.c.due <= now)
        .group_by(clean_ups.c.channel)
    )
    return {channel: int(number) for channel, number in conn.execute(query).all()}


def _ends(conn: Connection, names: Iterable[str]) -> dict[str, Ended]:
    """How settled probes ended."""
    verdicts: dict[str, list[tuple[Timeliness, Outcome, float]]] = {}
    for row in conn.execute(select(deliveries).where(deliveries.c.probe_id.in_(sorted(names)))).all():
        told = (Timeliness(row.timeliness), Outcome(row.outcome), max(row.timeliness_at, row.outcome_at))
        verdicts.setdefault(row.probe_id, []).append(told)
    return {name: ended(told) for name, told in verdicts.items()}


def _publications(
    conn: Connection, names: Sequence[str], ends: Mapping[str, Ended], keeping: Keeping
) -> Iterable[Wanted]:
    query = (
        select(steps.c.probe_id, steps.c.publication_id)
        .where(steps.c.probe_id.in_(names), steps.c.publication_id != "")
        .distinct()
    )
    for row in conn.execute(query).all():
        due = due_after(ends[row.probe_id], keeping)
        yield Wanted(CleanUpKind.PUBLICATION, "", "", row.publication_id, row.probe_id, due)


def _message(row: Row[Any], ends: Mapping[str, Ended], keeping: Keeping) -> Wanted:
    if row.probe_id is None:
        # It was minted before it was seen: by now it is at least so old.
        due = due_since(row.upper_wall, keeping)
        return Wanted(CleanUpKind.LEFTOVER, row.identity, row.channel, row.message_id, "", due)
    due = due_after(ends[row.probe_id], keeping)
    return Wanted(CleanUpKind.MESSAGE, row.identity, row.channel, row.message_id, row.probe_id, due)


def _put(conn: Connection, location: str, wanted: Sequence[Wanted]) -> int:
    rows = [
        {"location": location, "kind": each.kind.value, "identity": each.identity, "channel": each.channel,
         "subject": each.subject, "probe_id": each.probe, "due": each.due, "attempts": 0, "result": ""}
        for each in wanted
    ]  # fmt: skip
    for row in rows:
        conn.execute(insert(conn, clean_ups).values(row).on_conflict_do_nothing())
    return len(rows)


def _known(conn: Connection, location: str, found: Sequence[Found]) -> set[tuple[str, str]]:
    """Which of these have a clean-up, or a sighting from which one is planned in its time."""
    subjects, identities = [each.subject for each in found], sorted({each.identity for each in found})
    planned = select(clean_ups.c.identity, clean_ups.c.subject).where(
        clean_ups.c.location == location, clean_ups.c.identity.in_(identities), clean_ups.c.subject.in_(subjects)
    )
    seen = select(sightings.c.identity, sightings.c.message_id).where(
        sightings.c.location == location,
        sightings.c.identity.in_(identities),
        sightings.c.message_id.in_(subjects),
        sightings.c.sweep != 0,
    )
    return {(str(row[0]), str(row[1])) for query in (planned, seen) for row in conn.execute(query).all()}


def _due(conn: Connection, found: Found, keeping: Keeping) -> tuple[str, float] | None:
    """Whose it is and when it may go; None while a probe that it belongs to is open."""
    names = tuple(conn.execute(select(keys.c.probe_id).where(keys.c.value.in_(found.keys)).distinct()).scalars())
    if not names:
        return "", due_since(found.since, keeping)
    if any(conn.execute(select(_OPEN), {"probe": name}).scalar_one() for name in names):
        return None
    ends = _ends(conn, names)
    if ends.keys() != set(names):
        return None
    return names[0], max(due_after(end, keeping) for end in ends.values())
