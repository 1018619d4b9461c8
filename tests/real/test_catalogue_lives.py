"""The defect catalogue, continued: crashes, leftovers, clocks, percentiles, forgeries, poor servers, graceful stops."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Connection, select

from prober.ad_hoc import AdHocRun, Asked, with_bounds
from prober.assembly import drafting, open_flow
from prober.clock import SystemClock, wait_for_any
from prober.config import dump_configuration, settings_from_mapping
from prober.ledger import reading
from prober.ledger.ledger import Ledger
from prober.ledger.planning import PlannedProbe
from prober.ledger.reading import ProbeRecord
from prober.ledger.tables import totals
from prober.marker import Keyring, SigningKey, mint, mint_content_id
from prober.model import Outcome, PublicationKind, PublishResult, SlotState, StrayReason, Timeliness
from prober.objectives import Journey
from prober.report.result import TargetName, run_result, to_json
from prober.sandbox.launch import start_sandbox
from prober.sandbox.remote import Arrival, SandboxControl
from prober.sweep import Swept
from tests.flow.rig import Rig, total, verdict, verdicts
from tests.real.imap_proxy import Manner, imap_proxy
from tests.real.place import LOOK_AGAIN, PATIENCE, Life, Place, Truth, alert, living, place, untrue
from tests.real.strangers import WAYPOINTS
from tests.real.test_catalogue import CHANNELS, GOOD, everywhere, finished, found

MORTAL = str(Path(__file__).with_name("mortal.py"))
MONTH = 31 * 86_400.0


# --- 7: kill -9 ----------------------------------------------------------------------------------------------


async def mortal(config: Path, ledger: Path, death: tuple[str, str, int], load: tuple[int, float, float]) -> int:
    """Run probes in a process of their own, to its death or its end; its exit status."""
    words = [str(config), str(ledger), *map(str, death), *map(str, load)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, MORTAL, *words, stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL
    )
    return await process.wait()


async def arrived(control: SandboxControl, count: int) -> None:
    """Wait until so many messages have become visible."""
    async with asyncio.timeout(PATIENCE):
        while sum(bool(arrival.publication_id) for arrival in await control.truth()) < count:
            await wait_for_any(SystemClock(), asyncio.Event(), LOOK_AGAIN)


def truth_of(arrival: Arrival) -> Truth:
    return Truth(arrival.publication_id, arrival.channel, arrival.visible.before, arrival.visible.after)


def all_records(conn: Connection) -> tuple[ProbeRecord, ...]:
    return reading.probe_records(conn, reading.find_probes(conn, "", 1000))


@pytest.mark.parametrize(
    ("latency", "within", "wait", "expected"),
    [("4s", 40.0, False, {"on_time"}), ("1500ms", 0.5, True, {"overdue", "ambiguous"})],
    ids=["restart before the deadlines", "restart after them"],
)
async def test_defect_07_kill_with_deliveries_outstanding(
    tmp_path: Path, latency: str, within: float, wait: bool, expected: set[str]
) -> None:
    """kill -9 with fifteen deliveries outstanding: the next life resolves each exactly once and repeats no request."""
    count, config, ledger = 5, tmp_path / "prober.yaml", tmp_path / "ledger.sqlite"
    async with start_sandbox() as sandbox, sandbox.control() as control:
        config.write_text(dump_configuration(sandbox.configuration), encoding="utf-8")
        await control.set_weather(everywhere(f"latency: {latency}"))
        assert await mortal(config, ledger, ("after", "record_answer", count), (count, within, 60.0)) == -9
        async with Ledger(str(ledger)) as book:
            assert {row.open for record in await book.read(all_records) for row in record.deliveries} == {1}
        if wait:
            await arrived(control, 3 * count)
        async with AsyncExitStack() as stack:
            settings = settings_from_mapping(sandbox.configuration, "the sandbox's configuration")
            book = await stack.enter_async_context(Ledger(str(ledger)))
            flow = await open_flow(stack, settings, book, SystemClock())
            life = await stack.enter_async_context(living(flow, settings))
            probes = await life.settled()
            await life.assert_whole()
            assert await life.total("deliveries_total", outcome="delivered") == 3 * count
            assert await life.total("timeliness_total") == 3 * count
            assert untrue(await life.records(), [truth_of(arrival) for arrival in await control.truth()]) == []
        taken = Counter(request["idempotency_key"] for request in await control.publications())
    assert len(taken) == count
    assert set(taken.values()) == {1}
    assert {timeliness for timeliness, _ in found(probes)} <= expected


# --- 8 and 12: what is not ours --------------------------------------------------------------------------------


async def post_everywhere(world: Place, life: Life, text: str) -> None:
    """Let the publishing system say on each channel what it says of the newest probe, with this text for its keys."""
    record = (await life.records())[0]
    for channel in CHANNELS:
        letter = world.letter(record, channel)
        await world.carry(replace(letter, content_ids=(), publication_id=str(uuid4()), text=f"{letter.text}\n{text}"))


def tampered(key: str) -> str:
    """The key with another last character."""
    return key[:-1] + ("a" if key[-1] != "a" else "b")


async def test_defect_08_leftovers_are_recognised_and_never_counted(tmp_path: Path) -> None:
    """Messages of another instance, environment and life are strays, each by its reason, beside a probe in flight."""
    async with place(tmp_path, everywhere("latency: 1s")) as world, world.life() as life:
        ours, now = life.flow.keyring, life.flow.clock.now().wall
        theirs = Keyring("production", (SigningKey("p", secrets.token_bytes(32)),))
        await life.launch(within=30, give_up=60)
        await life.until(lambda probes: probes[0].answer is not None)
        for leftover in (
            mint(ours, now, secrets.token_bytes(16)),
            f"https://example.org/content/{mint_content_id(ours, now, secrets.token_bytes(16))}",
            mint(theirs, now, secrets.token_bytes(16)),
            mint(ours, now - MONTH, secrets.token_bytes(16)),
        ):
            await post_everywhere(world, life, leftover)
        await life.counted(9, "strays_total", reason=StrayReason.FOREIGN)
        await life.counted(3, "strays_total", reason=StrayReason.EXPIRED)
        assert found(await finished(life, world)) == {GOOD}
        assert await life.total("strays_total") == 12
        assert await life.total("deliveries_total") == 3
        assert await life.total("copies_total") == 0


async def test_defect_08_a_lost_ledgers_messages_are_still_known_as_ours(tmp_path: Path) -> None:
    """After the ledger was lost its probes' messages are recognised by their signature, and count for no new probe."""
    async with place(tmp_path) as world:
        async with world.life() as life:
            await life.launch(within=30, give_up=60)
            assert found(await finished(life, world)) == {GOOD}
            old = [world.letter((await life.records())[0], channel) for channel in CHANNELS]
        world.ledger = str(tmp_path / "new.sqlite")
        async with world.life() as life:
            for letter in old:
                await world.carry(letter)
            await life.counted(3, "strays_total", reason=StrayReason.FOREIGN)
            await life.launch(within=30, give_up=60)
            assert found(await finished(life, world)) == {GOOD}
            assert await life.total("deliveries_total") == 3


HOSTILE = 'x"} 1\nprober_deliveries_total{channel="evil"} 9'


async def test_defect_12_forged_and_foreign_mail_is_ignored(tmp_path: Path) -> None:
    """What looks like a probe's message and is none decides nothing, and no label is made of anything in it."""
    async with place(tmp_path, everywhere("loss: 1.0")) as world, world.life() as life:
        (name,) = await life.launch(within=1, give_up=4)
        await life.until(lambda probes: probes[0].answer is not None)
        (record,) = await life.records()
        publication = json.loads(record.probe.publication)
        forged = [tampered(publication["marker"]), f"https://example.org/content/{tampered(publication['content_id'])}"]
        for text in ("", *forged):
            await post_everywhere(world, life, f"{HOSTILE}\n{text}")
        # The right publication id and the right words, but from somebody else.
        raw = (
            f"From: {name} <attacker@evil.example>\r\nTo: {world.address('email')}\r\nX-Scenario: {name}\r\n"
            f"Subject: {publication['subject']} {{evil}}\r\n\r\n"
            f"https://x.example/?publication_id={record.steps[0].publication_id}\r\n"
        )
        await world.mail.deliver(world.address("email"), raw.encode())
        probes = await finished(life, world)
        assert found(probes) == {("overdue", "lost")}
        assert await life.total("strays_total", reason=StrayReason.FORGED) == 3
        assert await life.total("strays_total", reason=StrayReason.UNMATCHED) >= 1
        assert await life.total("copies_total") == 0
        names, values = await life.flow.ledger.read(labels)
    closed = {word for enum in (Outcome, Timeliness, StrayReason, PublishResult, SlotState, PublicationKind, Journey)
              for word in enum} | {"push", "poll", "history"}  # fmt: skip
    unknown = values - {*closed, *WAYPOINTS, *CHANNELS, "email-2", "alert-latency"}
    assert all(is_bound(value) for value in unknown), unknown
    assert names <= {
        "scenario", "kind", "channel", "state", "result", "verdict", "outcome", "reason", "how", "le", "waypoint",
        "provider", "component",
    }  # fmt: skip


def labels(conn: Connection) -> tuple[set[str], set[str]]:
    """Every label name and value on record."""
    rows = [json.loads(text) for text in conn.execute(select(totals.c.labels)).scalars()]
    return {name for row in rows for name in row}, {value for row in rows for value in row.values()}


def is_bound(value: str) -> bool:
    """Whether it is a histogram's ``le``."""
    return value == "+Inf" or value.replace(".", "", 1).isdigit()


# --- 9: the wall clock steps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [-60.0, 60.0])
async def test_defect_09_wall_clock_steps_in_flight(tmp_path: Path, step: float) -> None:
    """A step of our wall clock while real servers answer changes no verdict and no latency."""
    weather = "channels: {email: {latency: 2s}, slack: {latency: 25s}, discord: {loss: 1.0}}"
    async with place(tmp_path, weather, speed=10) as world, world.life() as life:
        await life.launch(within=20, give_up=30)
        await life.until(lambda probes: probes[0].answer is not None)
        world.clock.step = step
        (probe,) = await finished(life, world)
    assert verdicts(probe) == {
        "email": GOOD,
        "slack": ("overdue", "delivered"),
        "discord": ("overdue", "lost"),
    }


# --- 11: percentiles -------------------------------------------------------------------------------------------


async def test_defect_11_a_timeout_is_neither_a_latency_nor_forgotten(tmp_path: Path) -> None:
    """What never came lies in +Inf alone, counts in the percentiles as never, and is named there."""
    rig = Rig(tmp_path, "channels: {email: {latency: 10s}, slack: {loss: 1.0}, discord: {latency: 40s}}")
    async with rig.world_turning(), rig.life() as life:
        await life.launch(2)
        await rig.clock.advance(60)
        waiting = to_json(run_result(TargetName("w", sandbox=True), await rig.results(life)))
        await rig.clock.advance(70)
        ended = to_json(run_result(TargetName("w", sandbox=True), await rig.results(life)))
        read = life.flow.ledger.read
        slack = {"channel": "slack"}
        assert await read(total, "delivery_latency_seconds_count") == 6
        assert await read(total, "delivery_latency_seconds_bucket", **slack) == 2
        assert await read(total, "delivery_latency_seconds_bucket", le="+Inf", **slack) == 2
        assert await read(total, "delivery_latency_seconds_sum", **slack) == 2 * 120
        assert await read(total, "delivery_latency_seconds_bucket", le="+Inf") == 2
    for result in (waiting, ended):
        rows = {row["channel"]: row for row in result["summary"]}
        assert rows["slack"]["latency_p50"] is None
        assert {"latency_p50", "latency_p95"} <= set(rows["slack"]["undelivered"])
        assert rows["email"]["latency_p95"] == pytest.approx(10, abs=0.1)
        assert rows["discord"]["latency_p95"] == pytest.approx(40, abs=0.1)


# --- 13: poor servers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manner", Manner)
async def test_defect_13_imap_server_that_does_not_push(tmp_path: Path, manner: Manner) -> None:
    """Mail that shows after NOOP or a new opening, and a connection that dies in IDLE, cost time and no verdict."""
    async with place(tmp_path) as world, imap_proxy(world.mail.imap_port, manner) as proxy:
        world.configuration["observers"]["mailbox-1"] |= {"port": proxy.port, "read_timeout": "500ms"}
        async with world.life() as life:
            await life.until(lambda _: all(sight.last_started is not None for sight in life.loops.sights.values()))
            await life.launch(2, within=20, give_up=60, channels=("email",))
            assert found(await finished(life, world)) == {GOOD}
            await world.weather(everywhere("loss: 1.0"))
            await life.launch(1, within=1.5, give_up=4, channels=("email",))
            assert found(await finished(life, world)) == {GOOD, ("overdue", "lost")}
            assert proxy.connections > 0


# --- 16: a graceful stop ---------------------------------------------------------------------------------------


class Audience:
    """Hears what a run tells; ``launched_enough`` and ``answered`` are set when it has come so far."""

    def __init__(self, enough: int) -> None:
        self.enough = enough
        self.names: list[str] = []
        self.answered_names: set[str] = set()
        self.launched_enough = asyncio.Event()
        self.answered = asyncio.Event()

    def launched(self, probes: Sequence[PlannedProbe]) -> None:
        self.names += [probe.id for probe in probes]
        if len(self.names) >= self.enough:
            self.launched_enough.set()

    def changed(self, record: ProbeRecord) -> None:
        if record.steps[0].result is not None:
            self.answered_names.add(record.probe.id)
        if len(self.answered_names) >= self.enough:
            self.answered.set()

    def blind(self, observer: str, why: str) -> None:
        """Not asked about."""

    def swept(self, swept: Swept) -> None:
        """Not asked about."""

    def held_up(self, seconds: float) -> None:
        """Not asked about either."""


async def test_defect_16_a_stop_drains(tmp_path: Path) -> None:
    """A stop ends the launching: what is in flight is settled before the run returns, and nothing is left to do."""
    async with place(tmp_path, everywhere("latency: 1500ms")) as world:
        audience = Audience(2)
        async with world.flow() as flow:
            asked = [Asked(with_bounds(alert(), 30, 60), tuple(world.settings.channels[name] for name in CHANNELS))]
            run = AdHocRun(flow, drafting(world.settings), asked, audience, count=50, every=0.2)
            records = await run.run(audience.launched_enough)
            launched = len(audience.names)
        assert 2 <= launched < 50
        assert {(row.timeliness, row.outcome) for record in records for row in record.deliveries} == {GOOD}
        async with world.life() as life:
            assert await life.flow.ledger.read(reading.open_probes, life.flow.location) == ()
            assert await life.total("deliveries_total") == 3 * launched
            assert untrue(await life.records(), world.truths()) == []
            await life.assert_whole()


async def test_defect_16_a_stop_at_once_persists(tmp_path: Path) -> None:
    """A run that is cancelled in mid-flight leaves all on record: the next life counts each delivery exactly once."""
    async with place(tmp_path, everywhere("latency: 2s")) as world:
        audience = Audience(3)
        async with world.flow() as flow:
            asked = [Asked(with_bounds(alert(), 30, 60), tuple(world.settings.channels[name] for name in CHANNELS))]
            run = AdHocRun(flow, drafting(world.settings), asked, audience, count=3, every=0.0)
            running = asyncio.create_task(run.run(asyncio.Event()))
            async with asyncio.timeout(PATIENCE):
                await audience.answered.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            assert running.cancelled()
        async with world.life() as life:
            assert {verdict(d)[1] for probe in await finished(life, world) for d in probe.deliveries} == {"delivered"}
            assert await life.total("deliveries_total", outcome="delivered") == 9
            assert await life.total("publish_requests_total", result="accepted") == 3
            assert len(world.world.requests) == 3
