"""``tick`` exports its probes' traces before it ends, or leaves them to a later pass: none is lost, none goes twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from prober.exporting import LAST
from prober.ledger.audit_tables import untraced
from prober.model import Schedule
from tests.flow.rig import SCENARIO
from tests.flow.test_exporting import Sink
from tests.flow.test_tick import MINUTELY, Cron, cron

LATE = "channels: {email: {latency: 8s}, slack: {latency: 8s}, discord: {latency: 8s}}"


async def names(it: Cron) -> list[str]:
    """Every probe on record, after it was seen that no trace of one waits."""

    def waiting(conn: Connection) -> int:
        return int(conn.execute(select(func.count()).select_from(untraced)).scalar_one())

    found = sorted(probe.probe for probe in await it.probes())
    async with it.rig.flow() as (flow, _, _):
        assert await flow.ledger.read(waiting) == 0
    return found


async def test_a_pass_exports_what_it_has_settled_before_it_ends(tmp_path: Path) -> None:
    """One pass, one probe, one trace."""
    async with cron(tmp_path) as it:
        it.rig.traces = sink = Sink(it.rig.clock)
        await it.finished()
        assert sink.taken == await names(it)
        assert len(sink.taken) == 1


@pytest.mark.parametrize("how", ["away", "silent"])
async def test_what_a_pass_could_not_export_goes_with_a_later_one(tmp_path: Path, how: str) -> None:
    """A collector that refuses or never answers holds a pass up by a few seconds; all comes later, and once."""
    async with cron(tmp_path) as it:
        it.rig.traces = sink = Sink(it.rig.clock, why="away" if how == "away" else "", stalls=how == "silent")
        fair = await it.finished()
        assert fair.left == 0
        assert fair.seconds < SCENARIO.within + LAST
        await it.rig.clock.advance(60)
        await it.finished()
        assert not sink.taken
        assert sink.tries >= 2
        sink.why, sink.stalls = "", False
        await it.rig.clock.advance(600)
        await it.finished()
        assert sorted(sink.taken) == await names(it)
        assert len(sink.taken) == 3


async def test_who_collects_exports(tmp_path: Path) -> None:
    """What is sent without lingering is exported by the pass that settles it."""
    async with cron(tmp_path, LATE, replace(MINUTELY, schedule=Schedule(every=3600.0))) as it:
        it.rig.traces = sink = Sink(it.rig.clock)
        assert (await it.finished(linger=0.0)).left == 3
        assert not sink.taken
        await it.rig.clock.advance(30)
        assert (await it.finished(linger=0.0)).left == 0
        assert sink.taken == await names(it)


async def test_overlapping_passes_export_each_probe_once(tmp_path: Path) -> None:
    """Those that only publish leave it to the one that observes."""
    async with cron(tmp_path, LATE, replace(SCENARIO, schedule=Schedule(every=5.0))) as it:
        it.rig.traces = sink = Sink(it.rig.clock)
        passes = []
        for _ in range(4):
            passes.append(await it.start())
            await it.rig.clock.advance(5)
        ended = [await each.end() for each in passes]
        assert {each.observed for each in ended} == {True, False}
        assert sorted(sink.taken) == await names(it)
        assert len(sink.taken) == 4
