"""Leases in the ledger: who may observe, and when another replica may instead; on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection

from prober.clock import Instant, boot_id
from prober.errors import LedgerError, Unreadable
from prober.leasing import EVERY, STILL, Leasing
from prober.ledger import observing
from prober.ledger.leases import Lease, LeaseLost, Replica, keep_leases, leases_of
from prober.stages import Flow
from tests.flow.rig import LOCATION, Rig, elsewhere

pytestmark = pytest.mark.usefixtures("each_database")

NAMES = {"email-observer", "slack-observer", "discord-observer"}
DEAD = f"{boot_id()}/1/never"


@asynccontextmanager
async def flows(rig: Rig, *replicas: str) -> AsyncIterator[list[Flow]]:
    """What each replica works with; nothing repeats its stages."""
    async with AsyncExitStack() as stack:
        yield [(await stack.enter_async_context(rig.flow(replica=name)))[0] for name in replicas]


async def test_what_is_free_is_taken_at_once_and_by_one(tmp_path: Path) -> None:
    """An empty ledger is the first one's; what it lets go is another's by its next look, under a higher epoch."""
    async with flows(Rig(tmp_path), "a", "b") as (one, two):
        a, b = Leasing(one), Leasing(two)
        await a.look()
        await b.look()
        assert (a.held, b.held) == (dict.fromkeys(NAMES, 1), {})
        await a.let_go()
        assert a.held == {}
        await b.look()
        assert b.held == dict.fromkeys(NAMES, 2)
        await a.look()
        assert a.held == {}


async def test_only_who_stands_still_is_replaced(tmp_path: Path) -> None:
    """A holder that beats is never replaced; a silent one is, after so many looks, and learns of it by its next."""
    async with flows(Rig(tmp_path), "a", "b") as (one, two):
        a, b = Leasing(one), Leasing(two)
        await a.look()
        for _ in range(3 * STILL):
            await a.look()
            await b.look()
        assert b.held == {}
        for _ in range(STILL - 1):
            await b.look()
        assert b.held == {}, "it has not stood still for long enough"
        await b.look()
        assert b.held == dict.fromkeys(NAMES, 2)
        await a.look()
        assert a.held == {}


async def test_a_beat_at_the_last_moment_keeps_it(tmp_path: Path) -> None:
    """Between a look and the take-over that follows from it the holder has beaten: nothing is taken."""
    async with flows(Rig(tmp_path), "a") as (flow,):
        ledger, holder, other = flow.ledger, Leasing(flow), Replica("b", "host")
        await holder.look()
        seen = (await ledger.read(leases_of, LOCATION))["email-observer"]
        await holder.look()
        assert await ledger.write(keep_leases, LOCATION, other, {}, {"email-observer": seen}) == {}
        now: Lease = (await ledger.read(leases_of, LOCATION))["email-observer"]
        assert (now.epoch, now.beat, now.holder) == (seen.epoch, seen.beat + 1, seen.holder)
        assert await ledger.write(keep_leases, LOCATION, other, {}, {"email-observer": None}) == {}
        assert await ledger.write(keep_leases, LOCATION, other, {}, {"email-observer": now}) == {"email-observer": 2}


@pytest.mark.parametrize("name", [DEAD, "anotherboot/1/1", elsewhere("x")], ids=["dead", "boot", "container"])
async def test_who_is_known_to_be_dead_is_replaced_at_once(tmp_path: Path, each_database: str, name: str) -> None:
    """A process that has ended on this machine, or, where the ledger is this machine's, with an earlier boot of it."""
    async with flows(Rig(tmp_path), "a") as (flow,):
        dead, living = Leasing(replace(flow, taken_by=name)), Leasing(flow)
        await dead.look()
        await living.look()
        certain = name == DEAD or (name == "anotherboot/1/1" and each_database == "sqlite")
        assert set(living.held) == (NAMES if certain else set())


async def test_a_restart_takes_up_its_own(tmp_path: Path) -> None:
    """What this very process held before is its own again, under a higher epoch: the old loops are fenced."""
    async with flows(Rig(tmp_path), "a") as (flow,):
        before, after = Leasing(flow), Leasing(flow)
        await before.look()
        await after.look()
        assert after.held == dict.fromkeys(NAMES, 2)


async def test_who_cannot_beat_for_too_long_observes_no_more(tmp_path: Path, each_database: str) -> None:
    """Where other machines share the ledger they have taken over by then; a ledger in a file nobody else can write."""
    cut = False

    def boundary(phase: str, _names: tuple[str, ...]) -> None:
        if cut and phase == "before":
            raise ConnectionError("on purpose")

    rig = Rig(tmp_path)
    async with rig.flow(boundary, replica="a") as (flow, _, _):
        leasing = Leasing(flow)
        await leasing.look()
        cut = True
        await rig.clock.advance(STILL * EVERY - 0.1)
        with pytest.raises(LedgerError):
            await leasing.look()
        assert set(leasing.held) == NAMES
        await rig.clock.advance(0.2)
        with pytest.raises(LedgerError):
            await leasing.look()
        assert set(leasing.held) == (set() if each_database == "postgresql" else NAMES)
        cut = False
        await leasing.look()
        assert leasing.held == dict.fromkeys(NAMES, 2 if each_database == "postgresql" else 1)


async def test_nothing_observed_is_recorded_by_a_stale_epoch(tmp_path: Path) -> None:
    """Neither a read, nor a push, nor a blindness of who was taken over from; and what goes with it stays."""
    async with flows(Rig(tmp_path), "a", "b") as (one, two):
        a, b = Leasing(one), Leasing(two)
        await a.look()
        stale = a.held["slack-observer"]
        channels = one.watches[1].channels
        now = one.clock.now()
        seen = observing.Observed("slack-observer", (), channels, cursor="first", readings={}, epoch=stale)
        await one.ledger.write(observing.record, LOCATION, seen, now)
        await a.let_go()
        await b.look()

        def blind(conn: Connection, epoch: int, begun: Instant) -> None:
            error = Unreadable("unreachable", "on purpose")
            observing.record_unreadable(conn, LOCATION, "slack-observer", error, begun, epoch=epoch)

        moved = replace(seen, expected="first", cursor="second")
        for act in (moved, replace(moved, cursor=None)):
            with pytest.raises(LeaseLost, match="slack-observer: another replica has taken it over"):
                await one.ledger.write(observing.record, LOCATION, act, now)
        with pytest.raises(LeaseLost):
            await one.ledger.write(blind, stale, now)
        assert await one.ledger.read(observing.cursor_of, LOCATION, "slack-observer") == "first"
        await two.ledger.write(observing.record, LOCATION, replace(moved, epoch=b.held["slack-observer"]), now)
        assert await two.ledger.read(observing.cursor_of, LOCATION, "slack-observer") == "second"
