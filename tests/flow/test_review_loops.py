"""What a stranger's review of the loops and of the ledger's threads found: each property failed once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from prober import stages
from prober.clock import Instant
from prober.errors import LedgerError
from prober.ledger.ledger import Ledger
from prober.ledger.tables import steps
from prober.loops import Loops
from prober.marker import Keyring
from prober.model import Batch
from prober.sandbox.inprocess import WorldObserver
from tests.flow.rig import KEYRING, SCENARIO, Life, Rig, conserved, verdicts

GOOD = ("on_time", "delivered")


class Stalling(WorldObserver):
    """An observer whose reads, from some time on, never end."""

    stalled = False

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        if self.stalled:
            await asyncio.Event().wait()
        return await super().read(cursor, since)


async def told_nothing(*_: object) -> None:
    return None


async def test_step_is_taken_once_whatever_its_audience_does(tmp_path: Path) -> None:
    """An error of whoever is told of an answer repeats no request."""
    rig = Rig(tmp_path)
    failures = [ValueError("the view broke")]

    async def fail_once(*_: object) -> None:
        if failures:
            raise failures.pop()

    async with rig.world_turning(), rig.life(observers=()) as life:
        await life.loops.__aexit__(None, None, None)
        async with Loops(life.flow, on_settled=told_nothing, on_change=fail_once) as broken:
            await Life(life.flow, broken, life.drafting, life.channels).launch(1)
            await rig.clock.advance(20)
        assert not failures
        assert len(rig.world.world.requests) == 1


async def test_loop_survives_an_audience_that_fails(tmp_path: Path) -> None:
    """A loop that ended in an error starts again even when telling of it fails too."""
    rig = Rig(tmp_path, "windows: [{from: 0s, to: 1h, api: {outage: true}}]")

    async def fail(*_: object) -> None:
        raise ValueError("the view broke")

    async with rig.world_turning(), rig.life(observers=()) as life:
        await life.loops.__aexit__(None, None, None)
        async with Loops(life.flow, on_settled=fail, on_change=fail) as broken:
            lives = Life(life.flow, broken, life.drafting, life.channels)
            for _ in range(2):
                await lives.launch(1)
                await rig.clock.advance(60)
        for probe in await rig.results(life):
            assert set(verdicts(probe).values()) == {("moot", "unanswered")}


async def test_stalled_observer_is_blind_and_not_silent(tmp_path: Path) -> None:
    """A read that never ends becomes a failed one: what it should have shown ends void, not open for ever."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life(observers=()) as life:
        await life.loops.__aexit__(None, None, None)
        channel = life.channels["slack"]
        observer = Stalling("slack-observer", rig.world, (channel,), pushes=False)
        flow = replace(life.flow, watches=(stages.Watch(observer, {"slack": channel}),))
        async with observer, Loops(flow, on_settled=told_nothing, on_change=told_nothing) as stalling:
            await rig.clock.advance(1)
            observer.stalled = True
            await Life(flow, stalling, life.drafting, life.channels).launch(1, replace(SCENARIO, channels=("slack",)))
            await rig.clock.advance(120 + 60 + 2 * stages.STALLED + 10)
            (probe,) = await rig.results(life)
            assert verdicts(probe) == {"slack": ("void", "void")}
            assert "timeout" in stalling.sights["slack-observer"].blind


async def test_pushes_are_recorded_while_a_read_waits_for_its_allowance(tmp_path: Path) -> None:
    """A provider's read limit holds back reads, never what was pushed."""
    weather = "{channels: {slack: {latency: 1s}}, windows: [{from: 0s, to: 10s, channels: {slack: {loss: 1.0}}}]}"
    rig = Rig(tmp_path, weather)
    async with rig.world_turning(), rig.life(observers=()) as life:
        await life.loops.__aexit__(None, None, None)
        channel = life.channels["slack"]
        observer = WorldObserver("slack-observer", rig.world, (channel,))
        observer.reads_per_minute = 1.0
        flow = replace(life.flow, watches=(stages.Watch(observer, {"slack": channel}),))
        async with observer, Loops(flow, on_settled=told_nothing, on_change=told_nothing) as limited:
            lives = Life(flow, limited, life.drafting, life.channels)
            await rig.clock.advance(1)
            await lives.launch(1, replace(SCENARIO, channels=("slack",), within=3.0, give_up=6.0))
            await rig.clock.advance(14)
            (found,) = await lives.launch(1, replace(SCENARIO, channels=("slack",)))
            await rig.clock.advance(2)
            probes = {probe.probe: probe for probe in await rig.results(life)}
            assert verdicts(probes[found]) == {"slack": GOOD}


async def test_answer_in_hand_is_recorded_even_when_we_are_told_to_stop(tmp_path: Path) -> None:
    """A stop between an answer and its record loses nothing: what was asked to be written is written."""
    rig = Rig(tmp_path, "api: {latency: 0s}")
    async with rig.world_turning(), rig.life(observers=()) as life:
        await life.loops.__aexit__(None, None, None)
        await life.launch(1)
        (claimed,) = (await stages.claim(life.flow)).steps
        entered, released = threading.Event(), threading.Event()

        def occupy(_: Connection) -> None:
            entered.set()
            assert released.wait(10)

        blocking = asyncio.ensure_future(life.flow.ledger.write(occupy))
        await asyncio.to_thread(entered.wait, 10)
        taking = asyncio.ensure_future(stages.take(life.flow, claimed))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(rig.world.world.requests) == 1
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        released.set()
        await blocking
        await life.flow.ledger.write(lambda conn: None)
        state = await life.flow.ledger.read(lambda conn: conn.execute(select(steps.c.result)).scalar_one())
        assert state == "accepted"


async def test_answer_waits_for_a_ledger_that_refuses_it(tmp_path: Path) -> None:
    """For whatever reason the ledger refuses an answer, it waits in hand and is on record once it can be."""
    rig = Rig(tmp_path, "{api: {latency: 5s}}")

    def refuse(conn: Connection) -> None:
        conn.exec_driver_sql(
            "CREATE TRIGGER no BEFORE UPDATE ON steps BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
        )

    def allow(conn: Connection) -> None:
        conn.exec_driver_sql("DROP TRIGGER no")

    async with rig.world_turning(), rig.life() as life:
        await life.launch(1)
        await rig.clock.advance(1)
        for act, seconds in ((refuse, 8), (allow, 30)):
            changing = asyncio.ensure_future(life.flow.ledger.write(act))
            await rig.clock.advance(seconds)
            await changing
        (probe,) = await rig.results(life)
        assert probe.answer is not None
        assert probe.answer.result == "accepted"
        assert await life.flow.ledger.read(conserved)


async def test_ledgers_writer_outlives_an_error_of_ours(tmp_path: Path) -> None:
    """What goes wrong around a commit fails that write by name; the next one works."""
    failing = [True]

    def boundary(phase: str, _names: Sequence[str]) -> None:
        if phase == "before" and failing:
            failing.clear()
            raise RuntimeError("on purpose")

    async with Ledger(str(tmp_path / "ledger.sqlite"), boundary) as ledger:
        with pytest.raises(LedgerError):
            await asyncio.wait_for(ledger.write(lambda conn: None), 10)
        assert await asyncio.wait_for(ledger.write(lambda conn: 7), 10) == 7


async def test_ledger_serves_one_environment(tmp_path: Path) -> None:
    """A prober of another environment refuses the ledger, and publishes nothing that was planned for the first."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life(observers=()) as life:
        keyring = Keyring("another", KEYRING.keys)
        flow = replace(life.flow, keyring=keyring)
        with pytest.raises(LedgerError, match="environment 'test'"):
            async with Loops(flow, on_settled=told_nothing, on_change=told_nothing):
                pass
        async with Loops(life.flow, on_settled=told_nothing, on_change=told_nothing):
            pass


async def test_one_pass_of_settle_is_one_transaction(tmp_path: Path) -> None:
    """Waiting sightings expire in the transaction in which verdicts are written: one commit, not two."""
    commits: list[tuple[str, ...]] = []

    def note(phase: str, names: tuple[str, ...]) -> None:
        if phase == "after":
            commits.append(names)

    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life(note, observers=()) as life:
        commits.clear()
        await stages.settle(life.flow)
        assert len(commits) == 1
