"""Whatever is asked of the world outside is on record before it leaves, and its answer after."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from prober.acts import Act, Acts
from prober.auditing import UNTOLD, Audit
from prober.clean_up import Keeping, Removal, Retention, Upkeep
from prober.clock import Instant
from prober.errors import LedgerError, LedgerFull, Unanswered, Unreadable
from prober.ledger.acting import acts_between, record_acts
from prober.ledger.ledger import Ledger
from prober.ledger.retention import remove_old
from prober.model import Batch, ChannelKind
from prober.provisioning import provision
from prober.safety import Bounds, Inventory, TargetChannel, TargetSubscriber
from prober.sandbox.inprocess import WorldObserver
from prober.sandbox.manual_clock import ManualClock
from prober.targets import Furnishing
from tests.flow.rig import LOCATION, Life, Rig


async def acts(rig: Rig, life: Life) -> tuple[Act, ...]:
    task = asyncio.ensure_future(life.flow.ledger.read(acts_between, 0.0, 1e12))
    await rig.clock.advance(0)
    return await task


async def test_publishing_and_sweeping_are_on_record(tmp_path: Path) -> None:
    """The step, the withdrawal of its publication and each message that was removed, with process and answer."""
    rig = Rig(tmp_path)
    rig.sweeping = True
    rig.upkeep = Upkeep(Keeping(0, 0, 1e9), Retention())
    async with rig.world_turning(), rig.life() as life:
        (name,) = await life.launch()
        await rig.clock.advance(200)
        before = await acts(rig, life)
        await rig.clock.advance(300)
        found = await acts(rig, life)
        by = life.flow.taken_by
    assert [(act.kind, act.probe, act.by) for act in before if act.kind == "create"] == [("create", name, by)]
    (create,) = [act for act in found if act.kind == "create"]
    assert create.answer.startswith("accepted, HTTP 20")
    assert create.ended is not None
    assert create.began <= create.ended
    done = [act for act in found if act.kind in {"withdraw", "remove"}]
    assert {act.kind for act in done} == {"withdraw", "remove"}
    assert {act.place for act in done} == {"target", "email", "slack", "discord"}
    assert {(act.probe, act.by) for act in done} == {(name, by)}
    assert {(act.kind, act.answer) for act in done} == {
        ("withdraw", Removal.TOO_LATE.value),  # an alert that has been delivered
        ("remove", Removal.REMOVED.value),
    }


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def listed(ledger: Ledger) -> list[tuple[str, str, str]]:
    return [(act.kind, act.subject, act.answer) for act in await ledger.read(acts_between, 0.0, 1e12)]


async def test_it_is_on_record_before_it_leaves(ledger: Ledger, clock: ManualClock) -> None:
    """While the request is on its way its row stands there without an answer; a crash leaves it so."""
    audit = Audit(ledger, clock, LOCATION, "boot/1/2")
    with suppress(ConnectionAbortedError):
        async with audit.asking("remove", "slack", {"a": "probe1", "b": ""}):
            assert await listed(ledger) == [("remove", "a", ""), ("remove", "b", "")]
            raise ConnectionAbortedError
    assert await listed(ledger) == [("remove", "a", ""), ("remove", "b", "")]
    async with audit.asking("remove", "slack", {"c": "", "d": ""}) as answers:
        answers["c"] = "removed"
    assert (await listed(ledger))[2:] == [("remove", "c", "removed"), ("remove", "d", UNTOLD)]


@pytest.mark.parametrize("error", [Unreadable("auth", "the token is revoked"), Unanswered("no answer in time")])
async def test_a_refusal_is_an_answer(ledger: Ledger, clock: ManualClock, error: Exception) -> None:
    """What a provider refused is on record as such, and raised."""
    with pytest.raises(type(error)):
        async with Audit(ledger, clock, LOCATION, "me").asking("control", "slack", {"": ""}):
            raise error
    assert await listed(ledger) == [("control", "", f"failed: {error}")]


@dataclass
class Furnisher:
    """A target in which things can be made; it notes what was on record as it was asked."""

    ledger: Ledger
    seen: list[list[tuple[str, str, str]]] = field(default_factory=list)

    async def inventory(self) -> Inventory:
        return Inventory((), ())

    def refuses(self, address: str) -> str:
        return ""

    async def make_channel(self, name: str, kind: ChannelKind, place: str) -> TargetChannel | None:
        self.seen.append(await listed(self.ledger))
        return TargetChannel("c1", name, kind.value, active=True, place=place)

    async def make_subscriber(self, address: str, channel: str) -> TargetSubscriber | None:
        self.seen.append(await listed(self.ledger))
        return TargetSubscriber("s1", address, frozenset({channel}), "active")

    async def subscribe(self, subscriber: TargetSubscriber, channel: str) -> None:
        raise AssertionError("nobody was there")


async def test_provisioning_is_on_record(tmp_path: Path, ledger: Ledger, clock: ManualClock) -> None:
    """What is made in the target stands there first; a rehearsal writes nothing."""
    channel = Rig(tmp_path).world.channels()["email"]
    target: Furnishing = Furnisher(ledger)
    bounds = Bounds((), "prober-", (channel,), by_subscription=True)
    audit = Audit(ledger, clock, LOCATION, "me")
    await provision(target, bounds, dry_run=True, audit=audit)
    assert await listed(ledger) == []
    await provision(target, bounds, dry_run=False, audit=audit)
    made = [("make channel", "prober-email", "made c1"), ("subscriber", channel.address, "made s1")]
    assert await listed(ledger) == made
    assert isinstance(target, Furnisher)
    assert [seen[-1] for seen in target.seen] == [(*made[0][:2], ""), (*made[1][:2], "")]


@dataclass
class Doer:
    """An adapter that does something of its own accord."""

    acts: Acts


async def test_what_adapters_do_of_their_own_accord_is_on_record(ledger: Ledger, clock: ManualClock) -> None:
    """With process, instants, answer and, for several in one, their number; a ledger that fails loses none of it."""
    doer = Doer(Acts(clock))
    with doer.acts.asking("forget", "mail", "a notification of the queue inbound", 3) as told:
        await clock.advance(1)
        told.append("deleted")
    async with Ledger(ledger.place, full) as other:
        with pytest.raises(LedgerError, match="disk is full"):
            await record_acts(other, LOCATION, "boot/1/2", [doer], whole=True)
    await record_acts(ledger, LOCATION, "boot/1/2", [object(), doer], whole=True)
    (act,) = await ledger.read(acts_between, 0.0, 1e12)
    assert (act.kind, act.place, act.by, act.answer) == ("forget", "mail", "boot/1/2", "deleted")
    assert act.subject == "3 times a notification of the queue inbound"
    assert act.ended == act.began + 1
    assert doer.acts.take(whole=True) == ()


async def test_what_adapters_did_is_on_record_though_its_stage_is_stopped(ledger: Ledger, clock: ManualClock) -> None:
    """A stage may be stopped while the ledger is busy with others: nobody else knows of what it took along."""
    doer, free = Doer(Acts(clock)), threading.Event()

    def occupy(_conn: Connection) -> None:
        free.wait(30)

    with doer.acts.asking("token", "POST https://login.example/token", "refresh_token") as told:
        told.append("granted")
    busy = asyncio.ensure_future(ledger.write(occupy))
    recording = asyncio.ensure_future(record_acts(ledger, LOCATION, "boot/1/2", [doer]))
    await asyncio.sleep(0)
    recording.cancel()
    with suppress(asyncio.CancelledError):
        await recording
    free.set()
    await busy
    await ledger.write(occupy)
    (act,) = await ledger.read(acts_between, 0.0, 1e12)
    assert (act.kind, act.answer) == ("token", "granted")


def full(_name: str, _written: tuple[str, ...]) -> None:
    raise LedgerFull("ledger: the disk is full")


async def test_a_read_that_posts_leaves_it_on_record_even_when_it_fails(tmp_path: Path) -> None:
    """What an observer did in a read is on record with it, and with its failure."""
    rig = Rig(tmp_path)
    rig.observer = Posting
    async with rig.world_turning(), rig.life(observers=("email",)) as life:
        await rig.clock.advance(1)
        found = await acts(rig, life)
        by = life.flow.taken_by
    assert [(act.kind, act.place, act.answer, act.by) for act in found][:1] == [("control", "email", "posted m1", by)]


class Posting(WorldObserver):
    """Posts, and then cannot read."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.acts = Acts(self._clock)

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        with self.acts.asking("control", self.channels[0], "") as told:
            told.append("posted m1")
        raise Unreadable("timeout", "no history")


async def test_acts_of_no_probe_leave_after_the_longest_retention(ledger: Ledger, clock: ManualClock) -> None:
    """They are kept as long as failures, and no longer."""
    async with Audit(ledger, clock, LOCATION, "me").asking("control", "slack", {"": ""}):
        pass
    kept = Retention(success=10.0, failure=100.0, hourly=1e9)
    now = clock.now().wall
    await ledger.write(remove_old, LOCATION, kept, now + 99)
    assert len(await listed(ledger)) == 1
    await ledger.write(remove_old, LOCATION, kept, now + 101)
    assert await listed(ledger) == []
