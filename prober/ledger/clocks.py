"""Providers' clocks: bounds on each, from control messages, that widen with time and begin anew after a step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, select

from prober.clock import Instant
from prober.correlate import Offset
from prober.interval import CLOCK_DRIFT, Interval, offset_from_exchange
from prober.ledger.dialect import insert
from prober.ledger.prepared import Prepared
from prober.ledger.tables import offsets
from prober.ledger.totals import Rise
from prober.model import Control


@dataclass(frozen=True, slots=True)
class ClockBound:
    """A provider's clock minus our wall clock, in seconds: the middle of its bounds, and half their width.

    ``stepped_at`` (wall) is when its latest step was noticed, ``step`` its size at the least; None for none.
    """

    source: str
    offset: float
    uncertainty: float
    stepped_at: float | None = None
    step: float | None = None


def bound_clock(conn: Connection, location: str, control: Control, rise: Rise) -> None:
    """Narrow the bounds on the provider's clock by one exchange that it stamped.

    What is known from before has aged by CLOCK_DRIFT. Where the two exclude each other its clock has stepped: that is
    counted, and what it stamped before this exchange is not interpreted any more.
    """
    stamp, at = control.stamp, control.answered.boottime
    fresh = offset_from_exchange(control.sent.boottime, at, stamp.at, stamp.resolution, stamp.source)
    here = {"location": location, "source": stamp.source, "boot_id": control.sent.boot_id}
    old = conn.execute(select(offsets).where(and_(*(offsets.c[name] == value for name, value in here.items())))).first()
    both: Interval | None = fresh
    stepped: dict[str, float] = {}
    if old is not None:
        aged = Interval(old.lower, old.upper, stamp.source).widened(CLOCK_DRIFT * abs(at - old.at_boottime))
        both = aged.intersection(fresh)
        if both is None:
            step = fresh.lower - aged.upper if fresh.lower > aged.upper else fresh.upper - aged.lower
            stepped = {"since_boottime": control.sent.boottime, "stepped_at": control.answered.wall, "step": step}
            rise.count("internal_errors_total", {"component": "clock", "reason": "step"})
    kept = both or fresh
    values = {"lower": kept.lower, "upper": kept.upper, "at": control.answered.wall, "at_boottime": at, **stepped}
    statement = insert(conn, offsets).values(**here, **values)
    conn.execute(statement.on_conflict_do_update(index_elements=list(here), set_=values))


_OFFSETS = Prepared(select(offsets).where(offsets.c.location == bindparam("location")))


def offsets_of(conn: Connection, location: str) -> Mapping[str, Mapping[str, Offset]]:
    """The bounds on every provider's clock, by boot and source."""
    found: dict[str, dict[str, Offset]] = {}
    for row in _OFFSETS.all(conn, {"location": location}):
        since = -math.inf if row.since_boottime is None else row.since_boottime
        bounds = Interval(row.lower, row.upper, row.source)
        found.setdefault(row.boot_id, {})[row.source] = Offset(bounds, row.boot_id, row.at_boottime, since)
    return found


def clock_bounds(conn: Connection, location: str, now: Instant) -> tuple[ClockBound, ...]:
    """Every provider's clock against our wall clock as it shows now, by what this boot has measured."""
    query = select(offsets).where(offsets.c.location == location, offsets.c.boot_id == now.boot_id)
    found = []
    for row in conn.execute(query.order_by(offsets.c.source)).all():
        held = Interval(row.lower, row.upper, row.source)
        bounds = held.widened(CLOCK_DRIFT * abs(now.boottime - row.at_boottime)).shifted(now.boottime - now.wall)
        found.append(ClockBound(row.source, bounds.middle, bounds.width / 2, row.stepped_at, row.step))
    return tuple(found)
