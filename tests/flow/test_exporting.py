"""Traces leave once each, whatever crashes and whoever is away, and measuring never waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from prober.ledger import reading, untraced
from prober.ledger.audit_tables import untraced as waiting
from prober.ledger.ledger import Ledger
from prober.ledger.publishing import publication_of
from prober.ledger.reading import ProbeRecord
from prober.sandbox.manual_clock import ManualClock
from prober.tracing import CLIENT, CONSUMER, INTERNAL, SpanFact, spans_of
from tests.flow.rig import LOCATION, SCENARIO, Life, Rig, conserved, total, verdicts


@dataclass
class Sink:
    """A collector that says ``why`` it takes nothing, or never answers."""

    clock: ManualClock
    why: str = ""
    stalls: bool = False
    taken: list[str] = field(default_factory=list)
    tries: int = 0

    async def send(self, records: Sequence[ProbeRecord]) -> str:
        self.tries += 1
        if self.stalls:
            await asyncio.Event().wait()
        if not self.why:
            self.taken += [record.probe.id for record in records]
        return self.why


async def spans(rig: Rig, life: Life, probe: str) -> tuple[ProbeRecord, list[SpanFact]]:
    task = asyncio.ensure_future(life.flow.ledger.read(reading.probe_records, [probe]))
    await rig.clock.advance(0)
    (record,) = await task
    return record, [*spans_of(record)]


async def counted(rig: Rig, life: Life, reason: str) -> float:
    def count(conn: Connection) -> float:
        return total(conn, "internal_errors_total", component="traces", reason=reason)

    task = asyncio.ensure_future(life.flow.ledger.read(count))
    await rig.clock.advance(0)
    return await task


async def test_a_probe_is_one_trace_of_what_is_on_record(tmp_path: Path) -> None:
    """Ids, parents, links and times are the ledger's, and nothing of the message's text is in any attribute."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life() as life:
        (name,) = await life.launch()
        await rig.clock.advance(150)
        record, found = await spans(rig, life, name)
    publication = publication_of(record.probe.publication)
    root, step, *arrivals = found
    assert [span.kind for span in found] == [INTERNAL, CLIENT, CONSUMER, CONSUMER, CONSUMER]
    assert {span.trace for span in found} == {record.probe.trace_id}
    assert len({span.id for span in found}) == len(found)
    assert step.id == publication.span_id
    assert (root.parent, {span.parent for span in found[1:]}) == ("", {root.id})
    assert [span.links for span in arrivals] == [(step.id,)] * 3
    assert (step.begin, step.end) == (record.steps[0].requested_wall, record.steps[0].ended_wall)
    for span, row in zip(arrivals, record.deliveries, strict=True):
        assert abs(span.begin - step.begin - row.latency_lower) < 1e-5
        assert abs(span.end - step.begin - row.latency_upper) < 1e-5
        seen = next(one for one in record.sightings if one.id == row.sighting_id)
        assert span.end <= seen.upper_wall + 1e-5
    assert all(span.begin <= span.end for span in found)
    assert root.begin <= step.begin
    assert root.end == max(row.outcome_at for row in record.deliveries)
    assert not any(span.error for span in found)
    told = str([asdict(span) for span in found])
    for text in (publication.marker, publication.content_id, publication.text, publication.subject):
        assert text not in told


async def test_what_went_wrong_is_an_error_of_its_span(tmp_path: Path) -> None:
    """A request that failed and a probe that broke its promise are errors; what never arrived has no arrival."""
    rig = Rig(tmp_path, "{seed: 1, api: {status: 503}}")
    async with rig.world_turning(), rig.life() as life:
        (name,) = await life.launch()
        await rig.clock.advance(300)
        record, (root, step) = await spans(rig, life, name)
    assert record.steps[0].status >= 500
    assert step.attributes["error.type"] == str(record.steps[0].status)
    assert step.attributes["http.response.status_code"] == record.steps[0].status
    assert step.error
    assert root.attributes["prober.result"] == "fail"
    assert root.error
    assert {event.attributes["prober.verdict"] for event in root.events if event.name == "settled"} == {
        "moot",
        "unanswered",
    }


async def test_each_settled_probe_is_exported_once(tmp_path: Path) -> None:
    """Not before it is settled whole, and not again by the next process."""
    rig = Rig(tmp_path)
    rig.traces = sink = Sink(rig.clock)
    async with rig.world_turning():
        async with rig.life() as life:
            names = await life.launch(3)
            await rig.clock.advance(300)
            assert sorted(sink.taken) == sorted(names)
        async with rig.life():
            await rig.clock.advance(300)
        assert sorted(sink.taken) == sorted(names)
        assert sink.tries == 1


async def test_a_trace_is_not_lost_with_its_process(tmp_path: Path) -> None:
    """What was settled and not exported when the process ended is exported by the next one, once."""
    rig = Rig(tmp_path)
    rig.traces = first = Sink(rig.clock, stalls=True)
    async with rig.world_turning():
        with suppress(ConnectionAbortedError):
            async with rig.life() as life:
                names = await life.launch(2)
                await rig.clock.advance(200)
                assert first.tries == 1
                raise ConnectionAbortedError("the machine is off")
        rig.traces = second = Sink(rig.clock)
        async with rig.life():
            await rig.clock.advance(untraced.LEASE + 60)
            assert sorted(second.taken) == sorted(names)
        async with rig.life():
            await rig.clock.advance(200)
    assert sorted(second.taken) == sorted(names)


@pytest.mark.parametrize("stalls", [False, True], ids=["refusing", "silent"])
async def test_measuring_and_the_end_do_not_wait_for_a_collector(tmp_path: Path, stalls: bool) -> None:
    """Every delivery is judged as ever, the failure is counted, and the end is bounded."""
    rig = Rig(tmp_path)
    rig.traces = sink = Sink(rig.clock, why="refused", stalls=stalls)
    async with rig.world_turning():
        async with rig.life() as life:
            await life.launch(3)
            await rig.clock.advance(400)
            results = await rig.results(life)
            assert {pair for one in results for pair in verdicts(one).values()} == {("on_time", "delivered")}
            ending = asyncio.ensure_future(life.loops.__aexit__(None, None, None))
            await rig.clock.advance(10)
            assert ending.done()
            sink.stalls = False
            assert await counted(rig, life, "not_exported") >= 1
            task = asyncio.ensure_future(life.flow.ledger.read(conserved))
            await rig.clock.advance(0)
            assert await task
        assert not sink.taken


async def test_a_collector_that_comes_back_gets_all(tmp_path: Path) -> None:
    """What was put off is tried again, less and less often, and comes once."""
    rig = Rig(tmp_path)
    rig.traces = sink = Sink(rig.clock, why="away")
    async with rig.world_turning(), rig.life() as life:
        names = await life.launch(2)
        await rig.clock.advance(300)
        assert 3 <= sink.tries <= 9
        sink.why = ""
        await rig.clock.advance(untraced.LONGEST_PAUSE)
        assert sorted(sink.taken) == sorted(names)
        assert await counted(rig, life, "not_exported") == sink.tries - 1


async def test_what_waits_is_bounded_in_time_and_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a day, or beyond so many, traces are given up and counted."""
    rig = Rig(tmp_path)
    rig.traces = Sink(rig.clock, why="away")
    monkeypatch.setattr(untraced, "MOST", 2)
    async with rig.world_turning(), rig.life() as life:
        await life.launch(5)
        await rig.clock.advance(60)
        assert await counted(rig, life, "given_up") == 3
    late = rig.clock.now().wall + untraced.LONGEST
    async with Ledger(rig.place) as ledger:
        names = await ledger.write(untraced.claim, LOCATION, late)
        assert len(names) == 2
        assert await ledger.write(untraced.put_off, LOCATION, names, late) == 2
        assert await ledger.read(untraced.next_due, LOCATION) is None


async def test_without_a_collector_nothing_is_put_down(tmp_path: Path) -> None:
    """Where no traces are configured none wait: one that is configured later gets no history."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life() as life:
        await life.launch()
        await rig.clock.advance(200)

        def all_waiting(conn: Connection) -> list[object]:
            return [*conn.execute(select(waiting)).all()]

        task = asyncio.ensure_future(life.flow.ledger.read(all_waiting))
        await rig.clock.advance(0)
        assert await task == []


async def test_two_processes_never_have_the_same(tmp_path: Path) -> None:
    """What one has claimed no other gets while the lease lasts."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life() as life:
        names = await life.launch(3, SCENARIO)
    async with Ledger(str(tmp_path / "ledger.sqlite")) as one, Ledger(str(tmp_path / "ledger.sqlite")) as other:
        await one.write(untraced.queue, LOCATION, names, 100.0)
        got = await asyncio.gather(
            one.write(untraced.claim, LOCATION, 100.0), other.write(untraced.claim, LOCATION, 100.0)
        )
        assert sorted(len(each) for each in got) == [0, 3]
        again = await other.write(untraced.claim, LOCATION, 100.0 + untraced.LEASE)
        assert sorted(again) == sorted(names)
