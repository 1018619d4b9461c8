"""The sweep and retention on the in-process world: what goes when, what never does, and what a crash leaves."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from prober.clean_up import DAY, Keeping, Retention, Upkeep
from prober.ledger import sweeping
from prober.ledger.clean_up_table import clean_ups
from prober.ledger.exposing import snapshot
from prober.ledger.ledger import Ledger
from prober.ledger.retention import remove_old
from prober.ledger.tables import deliveries, keys, probes, sightings, steps, totals_hourly, waypoints
from prober.marker import Keyring, SigningKey, mint, mint_content_id
from prober.metrics import Configured, Local, families
from prober.model import PublicationKind
from prober.sandbox.boards import Board
from prober.sandbox.records import Order
from prober.sandbox.weather import parse_weather as parse
from tests.flow.rig import KEYRING, LOCATION, SCENARIO, Life, Rig, conserved, total, verdicts
from tests.places import new_place

each = pytest.mark.usefixtures("each_database")
"""Where the database matters: the others would cost time and prove nothing more of it."""

CHANNELS = ("email", "slack", "discord")
GONE = "channels: {email: {loss: 1.0}}"
UPKEEP = Upkeep(Keeping(success=600, failure=DAY, leftover=2 * DAY), Retention(30 * DAY, 90 * DAY, 400 * DAY))


def boards(rig: Rig) -> list[Board]:
    return [rig.world.board(place.address) for place in rig.world.places if place.name in CHANNELS]


def lying(rig: Rig) -> list[int]:
    """How many messages lie on each of the three channels."""
    return [len(board.since(0)) for board in boards(rig)]


def sweeper(folder: Path, weather: str = "seed: 1") -> Rig:
    rig = Rig(folder, weather)
    rig.sweeping, rig.upkeep = True, UPKEEP
    return rig


async def leave(rig: Rig, keyring: Keyring, age: float, *, text: str = "") -> None:
    """Leave a message on every channel that another prober's probe, minted so long ago, would have left."""
    (sent, *_) = rig.world.world.records.values()
    marker = mint(keyring, rig.clock.now().wall - age, secrets.token_bytes(16))
    for place in rig.world.places:
        if place.name in CHANNELS:
            letter = rig.world.world._message(sent, place.target_channel, place.kind, place.address)
            await rig.world.deliver(replace(letter, content_ids=(), publication_id="", text=text or marker))


async def repeat(rig: Rig) -> None:
    """Let the publishing system send its one publication again, everywhere."""
    (sent,) = rig.world.world.records.values()
    for place in rig.world.places:
        if place.name in CHANNELS:
            await rig.world.deliver(rig.world.world._message(sent, place.target_channel, place.kind, place.address))


async def awake(rig: Rig, seconds: float = 5) -> None:
    """A prober that lives for so long, by itself."""
    async with rig.life():
        await rig.clock.advance(seconds)


async def probed(rig: Rig, count: int = 1) -> tuple[str, ...]:
    """Probes that are settled, by a prober that has ended."""
    async with rig.life() as life:
        names = await life.launch(count)
        await rig.clock.advance(125)
    return names


async def asked(rig: Rig, name: str, /, **labels: str) -> float:
    """A total, from the ledger file."""
    async with Ledger(rig.place) as ledger:
        return await ledger.read(total, name, **labels)


async def test_successes_go_after_their_grace_and_failures_a_day_later(tmp_path: Path) -> None:
    """What all is well with goes soon; what failed on one channel stays on all of them, to be looked at."""
    rig = sweeper(tmp_path)
    async with rig.world_turning():
        async with rig.life() as life:
            await life.launch(2)
            await rig.clock.advance(580)
            assert lying(rig) == [2, 2, 2]
            await rig.clock.advance(100)
            assert lying(rig) == [0, 0, 0]
        rig.world.set_weather(parse(GONE))
        await probed(rig)
        await rig.clock.advance(DAY - 600)
        await awake(rig)
        assert lying(rig) == [0, 1, 1]
        await rig.clock.advance(600)
        await awake(rig)
        assert lying(rig) == [0, 0, 0]
        async with Ledger(rig.place) as ledger:
            assert await ledger.read(total, "clean_ups_total", kind="message", result="removed") == 8
            assert await ledger.read(total, "clean_ups_total", kind="publication", result="too_late") == 3
            assert await ledger.read(sweeping.backlog, LOCATION, rig.clock.now().wall) == {}
            assert await ledger.read(conserved)
            assert await ledger.read(total, "copies_total") == 0
            assert await ledger.read(total, "strays_total") == 0


@each
async def test_nothing_open_is_touched(tmp_path: Path) -> None:
    """A probe with one delivery that still waits keeps the messages that have come."""
    rig = sweeper(tmp_path, GONE)
    rig.upkeep = Upkeep(Keeping(0, 0, 0), UPKEEP.retention)
    async with rig.world_turning(), rig.life() as life:
        await life.launch(1, replace(SCENARIO, give_up=200))
        await rig.clock.advance(190)
        assert lying(rig) == [0, 1, 1]
        await rig.clock.advance(100)
        assert lying(rig) == [0, 0, 0]


async def test_a_copy_that_comes_later_goes_too(tmp_path: Path) -> None:
    """A message of a probe that was swept already is removed in its turn, and stays what it is: replayed."""
    rig = sweeper(tmp_path)
    async with rig.world_turning():
        await probed(rig)
        await rig.clock.advance(600)
        async with rig.life():
            await rig.clock.advance(5)
            assert lying(rig) == [0, 0, 0]
            await repeat(rig)
            await rig.clock.advance(130)
        assert lying(rig) == [0, 0, 0]
        assert await asked(rig, "strays_total", reason="replayed") == 3
        assert await asked(rig, "deliveries_total") == 3


THEIRS = Keyring("production", (SigningKey("p", b"a secret that only they know"),))
FORGER = Keyring("test", (SigningKey("t", b"not the secret of this key id"),))


async def test_leftovers_of_nobody_go_by_the_age_in_their_marker(tmp_path: Path) -> None:
    """What no ledger knows goes once it is old enough; another environment's, forged and strange ones never do."""
    rig = sweeper(tmp_path)
    async with rig.world_turning():
        await probed(rig)
        await rig.clock.advance(600)
        await awake(rig)
        await leave(rig, KEYRING, 0)
        for keyring in (THEIRS, FORGER):
            await leave(rig, keyring, 30 * DAY)
        await leave(rig, KEYRING, 0, text="Lunch?")
        rig.place = new_place(tmp_path, "another.sqlite")
        await rig.clock.advance(DAY)
        await awake(rig)
        assert lying(rig) == [4, 4, 4]
        await rig.clock.advance(DAY)
        await awake(rig)
        assert lying(rig) == [3, 3, 3]
        await rig.clock.advance(60 * DAY)
        await awake(rig)
        assert lying(rig) == [3, 3, 3]
        assert await asked(rig, "clean_ups_total", kind="leftover", result="removed") == 3
        assert await asked(rig, "deliveries_total") == 0


async def test_a_leftover_that_is_read_goes_by_when_it_was_seen(tmp_path: Path) -> None:
    """What another instance left while we were reading is a stray, and goes two days later."""
    rig = sweeper(tmp_path)
    async with rig.world_turning():
        await probed(rig)
        await rig.clock.advance(600)
        await awake(rig)
        async with rig.life():
            await leave(rig, KEYRING, 0)
            await leave(rig, FORGER, 0)
            await rig.clock.advance(10)
        for _ in range(2):
            await rig.clock.advance(DAY - 60)
            await awake(rig)
        assert lying(rig) == [2, 2, 2]
        await rig.clock.advance(300)
        await awake(rig)
        assert lying(rig) == [1, 1, 1]


async def test_what_cannot_be_removed_is_asked_for_once(tmp_path: Path) -> None:
    """A refusal is final: it is counted, and neither the sweep nor a later look tries it again."""
    rig = sweeper(tmp_path)
    async with rig.world_turning():
        await probed(rig)
        for board in boards(rig):
            board.locked = True
        for _ in range(3):
            await rig.clock.advance(3 * DAY)
            await awake(rig)
        assert lying(rig) == [1, 1, 1]
        assert [len(board.asked) for board in boards(rig)] == [1, 1, 1]
        assert await asked(rig, "clean_ups_total", result="denied") == 3


async def test_a_provider_that_is_away_is_tried_again(tmp_path: Path) -> None:
    """While nothing can be removed it stays in the backlog; afterwards it goes, and no verdict has changed."""
    rig = sweeper(tmp_path)
    async with rig.world_turning():
        await probed(rig)
        rig.world.set_weather(parse("channels: {email: {outage: true}}"))
        await rig.clock.advance(1000)
        await awake(rig)
        assert lying(rig) == [1, 0, 0]
        rig.world.set_weather(parse("seed: 1"))
        await awake(rig, 130)
        assert lying(rig) == [0, 0, 0]
        async with rig.life() as life:
            (probe,) = await rig.results(life)
            assert set(verdicts(probe).values()) == {("on_time", "delivered")}


def rows_of(conn: Connection) -> dict[str, int]:
    """How many rows each table has that hangs on probes."""
    tables = (probes, steps, deliveries, keys, sightings, waypoints, clean_ups)
    return {table.name: conn.execute(select(func.count()).select_from(table)).scalar_one() for table in tables}


STAY = {"prober_deliveries_total", "prober_publish_requests_total", "prober_delivery_latency_seconds_bucket",
        "prober_delivery_latency_seconds_sum", "prober_journeys_total", "prober_sightings_total"}  # fmt: skip


async def scraped(rig: Rig) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The counters and buckets of the probes as a scrape shows them; what goes on without them is left aside."""
    configured = Configured(LOCATION, "test", (SCENARIO,), {SCENARIO.name: CHANNELS})
    async with Ledger(rig.place) as ledger:
        shown = await ledger.read(snapshot, LOCATION, rig.clock.now())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(shown, configured, (), Local())
        for sample in family.samples
        if family.type in {"counter", "histogram"} and family.name.removeprefix("prober_") not in {"clean_ups"}
    }


async def totals_of(life: Life) -> tuple[float, ...]:
    names = ("deliveries_expected_total", "deliveries_total", "timeliness_total", "delivery_latency_seconds_count")
    return tuple([await life.flow.ledger.read(total, name) for name in names])


@each
async def test_retention_takes_successes_first_and_never_a_total(tmp_path: Path) -> None:
    """After 30 days a success leaves the ledger with all that hangs on it, after 90 a failure; totals stay, and so does
    every counter and bucket that a scrape shows."""
    rig = sweeper(tmp_path)
    async with rig.world_turning():
        await probed(rig, 2)
        rig.world.set_weather(parse(GONE))
        (failed,) = await probed(rig)
        before = await scraped(rig)
        assert sum(value for (name, _), value in before.items() if name == "prober_deliveries_total") == 9
        for days, names, sighted in ((29, 3, 8), (2, 1, 2), (58, 1, 2), (2, 0, 0)):
            await rig.clock.advance(days * DAY)
            async with rig.life() as life:
                await rig.clock.advance(10)
                left = await life.flow.ledger.read(rows_of)
                assert (left["probes"], left["sightings"], left["deliveries"]) == (names, sighted, 3 * names)
                assert await totals_of(life) == (9, 9, 9, 9)
                if names == 1:
                    assert [probe.probe for probe in await rig.results(life)] == [failed]
        assert set(left.values()) == {0}
        after = await scraped(rig)
        assert before.items() <= {key: after.get(key) for key in before}.items()
        assert {name for (name, _), value in before.items() if value} >= STAY


async def test_retention_never_takes_what_is_open(tmp_path: Path) -> None:
    """A probe whose horizon lies beyond its retention is judged first."""
    rig = sweeper(tmp_path, GONE)
    async with rig.world_turning():
        async with rig.life() as life:
            await life.launch(1, replace(SCENARIO, give_up=200 * DAY))
            await rig.clock.advance(60)
        await rig.clock.advance(150 * DAY)
        async with rig.life() as life:
            await rig.clock.advance(10)
            (probe,) = await rig.results(life)
        assert verdicts(probe)["email"] == ("overdue", "open")


async def test_the_totals_of_an_hour_stay_400_days(tmp_path: Path) -> None:
    """Hourly rows go after 400 days, and not before; the totals themselves never."""

    def hours(conn: Connection) -> int:
        return int(conn.execute(select(func.count()).select_from(totals_hourly)).scalar_one())

    rig = sweeper(tmp_path)
    async with rig.world_turning():
        await probed(rig)
    async with Ledger(rig.place) as ledger:
        kept, later = await ledger.read(hours), rig.clock.now().plus(399 * DAY).wall
        await ledger.write(remove_old, LOCATION, UPKEEP.retention, later)
        assert await ledger.read(hours) == kept > 0
        await ledger.write(remove_old, LOCATION, UPKEEP.retention, later + 2 * DAY)
        assert await ledger.read(hours) == 0
        assert await ledger.read(total, "deliveries_total") == 3


@pytest.mark.parametrize(("age", "reason"), [(31 * DAY, "expired"), (29 * DAY, "replayed")])
async def test_a_message_of_a_removed_probe_is_never_counted_as_delivered(
    tmp_path: Path, age: float, reason: str
) -> None:
    """What comes again after its probe has left the ledger is expired; before that it was replayed."""
    rig = sweeper(tmp_path)
    async with rig.world_turning():
        await probed(rig)
        await rig.clock.advance(age)
        async with rig.life() as life:
            await rig.clock.advance(60)
            await repeat(rig)
            await rig.clock.advance(60)
            assert await life.flow.ledger.read(total, "strays_total", reason=reason) == 3
            assert await life.flow.ledger.read(total, "strays_total") == 3
            assert await totals_of(life) == (3, 3, 3, 3)


def publish_elsewhere(rig: Rig, keyring: Keyring, age: float) -> str:
    """What a prober of which no ledger knows asked for so long ago, to go out tomorrow; the publication's id."""
    now = rig.clock.now().wall
    (place,) = (place for place in rig.world.places if place.name == "slack")
    signed = mint_content_id(keyring, now - age, secrets.token_bytes(16))
    order = Order(PublicationKind.MANUAL, (place.target_channel,), (signed,), scheduled_time=now + DAY)
    return rig.world.world.create(order).id


async def test_publications_of_dead_runs_are_withdrawn_by_the_age_in_their_key(tmp_path: Path) -> None:
    """What no ledger knows goes once it is old enough; what is younger, or of another environment, stays."""
    rig = sweeper(tmp_path)
    foreign = Keyring("elsewhere", (SigningKey("t", b"a secret that others know"),))
    async with rig.world_turning():
        old = publish_elsewhere(rig, KEYRING, 3 * DAY)
        young = publish_elsewhere(rig, KEYRING, DAY)
        theirs = publish_elsewhere(rig, foreign, 3 * DAY)
        await awake(rig)
        records = rig.world.world.records
        assert [records[name].status for name in (old, young, theirs)] == ["cancelled", "scheduled", "scheduled"]
        assert await asked(rig, "clean_ups_total", kind="publication", result="removed") == 1


async def test_publications_of_open_probes_stay(tmp_path: Path) -> None:
    """What the target lists of a probe that is not settled is not touched, however old its key."""
    rig = sweeper(tmp_path)
    rig.upkeep = Upkeep(Keeping(success=0, failure=0, leftover=0), UPKEEP.retention)
    async with rig.world_turning():
        async with rig.life() as life:
            await life.launch(1, replace(SCENARIO, scheduled_after=300.0))
            await rig.clock.advance(10)
        async with rig.life() as life:  # looks at once
            await rig.clock.advance(20)
            (record,) = rig.world.world.records.values()
            assert record.status == "scheduled"
            await rig.clock.advance(400)
            (probe,) = await rig.results(life)
    assert {outcome for _, outcome in verdicts(probe).values()} == {"delivered"}
