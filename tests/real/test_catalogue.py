"""The defect catalogue of delivery probers, each by its number: what others get wrong when it matters.

Over the real protocols where it is about I/O, else on the in-process world and a manual clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from prober.report.result import ProbeResult
from tests.flow.rig import SCENARIO, Rig, conserved, total, verdict, verdicts
from tests.real.place import Life, Place, place, untrue

CHANNELS = ("email", "slack", "discord")
GOOD = ("on_time", "delivered")
GONE = "channels: {email: {loss: 1.0}, slack: {loss: 1.0}, discord: {loss: 1.0}}"


def everywhere(weather: str) -> str:
    """The same weather over all three kinds."""
    return f"channels: {{email: {{{weather}}}, slack: {{{weather}}}, discord: {{{weather}}}}}"


def found(probes: Sequence[ProbeResult]) -> set[tuple[str, str]]:
    """Every pair of verdicts that occurs."""
    return {verdict(delivery) for probe in probes for delivery in probe.deliveries}


async def finished(life: Life, world: Place) -> tuple[ProbeResult, ...]:
    """Everything settled, nothing of it untrue, nothing counted twice."""
    probes = await life.settled()
    assert untrue(await life.records(), world.truths()) == []
    await life.assert_whole()
    return probes


async def test_defect_01_copies_at_once_and_after_the_verdict(tmp_path: Path) -> None:
    """The same message twice at once, and again later: delivered once, the others are copies, and nothing blocks."""
    async with place(tmp_path, everywhere("latency: 100ms, copies: 1.0")) as world, world.life() as life:
        await life.launch(within=30, give_up=60)
        assert found(await finished(life, world)) == {GOOD}
        (record,) = await life.records()
        for channel in CHANNELS:
            again = world.letter(record, channel)
            await world.carry(again)
            await world.carry(again)
        await life.until(lambda probes: all(delivery.copies == 3 for delivery in probes[0].deliveries))
        await life.launch(within=30, give_up=60)
        assert found(await finished(life, world)) == {GOOD}
        assert await life.total("deliveries_total", outcome="delivered") == 6
        assert await life.total("timeliness_total", verdict="on_time") == 6
        assert await life.total("strays_total") == 0


async def test_defect_01_copy_after_the_horizon_is_a_stray(tmp_path: Path) -> None:
    """A known message that appears again after the horizon is replayed: no copy, no delivery."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life() as life:
        await life.launch(1)
        await rig.clock.advance(SCENARIO.give_up + 60)
        (sent,) = rig.world.world.records.values()
        place_of = {place.name: place for place in rig.world.places}
        for name in CHANNELS:
            its = place_of[name]
            await rig.world.deliver(rig.world.world._message(sent, its.target_channel, its.kind, its.address))
        await rig.clock.advance(10)
        (probe,) = await rig.results(life)
        assert verdicts(probe) == dict.fromkeys(CHANNELS, GOOD)
        assert {delivery.copies for delivery in probe.deliveries} == {0}
        assert await life.flow.ledger.read(total, "strays_total", reason="replayed") == 3
        assert await life.flow.ledger.read(total, "deliveries_total") == 3


@pytest.mark.parametrize("poll", [None, 1.0])
@pytest.mark.parametrize("latency", ["29999ms", "30s", "30001ms"])
async def test_defect_02_exactly_at_the_deadline(tmp_path: Path, latency: str, poll: float | None) -> None:
    """A message that races its own expiry is settled once, as what it was, by push and by poll alike."""
    drops = "pushes: {drop: 1.0}, " if poll else ""
    rig = Rig(tmp_path, everywhere(f"{drops}latency: {latency}"), poll=poll)
    async with rig.world_turning(), rig.life() as life:
        await life.launch(3)
        await rig.clock.advance(125)
        probes = await rig.results(life)
        assert {outcome for _, outcome in found(probes)} == {"delivered"}
        allowed = {"30001ms": {"overdue"}, "30s": {"on_time", "overdue", "ambiguous"}}.get(latency, {"on_time"})
        # Polling cannot tell a millisecond: what it cannot tell, it may not claim.
        assert {timeliness for timeliness, _ in found(probes)} <= allowed | ({"ambiguous"} if poll else set())
        for delivery in (delivery for probe in probes for delivery in probe.deliveries):
            assert delivery.latency is not None
            assert delivery.latency.lower - 1e-6 <= float(latency.strip("ms")) / (1000 if "ms" in latency else 1)
            assert delivery.latency.upper + 1e-6 >= float(latency.strip("ms")) / (1000 if "ms" in latency else 1)
        assert await life.flow.ledger.read(conserved)
        assert await life.flow.ledger.read(total, "timeliness_total") == 9


async def test_defect_02_many_race_the_expiry_over_the_wire(tmp_path: Path) -> None:
    """Deliveries that become visible around their deadline are each settled once, and none against the truth."""
    weather = everywhere("latency: 1400ms, delay: {by: [0ms, 200ms]}")
    async with place(tmp_path, weather) as world, world.life() as life:
        await life.launch(8, within=1.5, give_up=12)
        probes = await finished(life, world)
        assert {outcome for _, outcome in found(probes)} == {"delivered"}
        assert await life.total("timeliness_total") == 24


async def test_defect_03_after_the_deadline_is_overdue_and_delivered(tmp_path: Path) -> None:
    """A late arrival is overdue and delivered, not lost, and lies in the histogram's upper buckets."""
    async with place(tmp_path, everywhere("latency: 2100ms")) as world, world.life() as life:
        await life.launch(2, within=0.5, give_up=30)
        assert found(await finished(life, world)) == {("overdue", "delivered")}
        buckets = {le: await life.total("delivery_latency_seconds_bucket", le=le) for le in ("0.5", "1.0", "2.0")}
        assert buckets == {"0.5": 0, "1.0": 0, "2.0": 0}
        assert await life.total("delivery_latency_seconds_bucket") == 6
        assert await life.total("delivery_latency_seconds_bucket", le="+Inf") == 0
        assert await life.total("delivery_latency_seconds_sum") > 6 * 2


@pytest.mark.parametrize(
    ("api", "result", "at_once"),
    [
        ("status: 422", "refused", ("moot", "refused")),
        ("status: 503", "error", None),
        ("reset_rate: 1.0", "error", None),
        ("timeout_rate: 1.0", "timeout", None),
        ("outage: true", "unreachable", ("moot", "unanswered")),
    ],
)
async def test_defect_04_failed_create_shows_at_once(
    tmp_path: Path, api: str, result: str, at_once: tuple[str, str] | None
) -> None:
    """A create call that fails is a publish result of its own long before the horizon; success does not stay."""
    async with place(tmp_path) as world:
        world.configuration["target"]["timeout"] = 1.0
        async with world.life() as life:
            await life.launch(within=30, give_up=3600)
            assert found(await life.settled()) == {GOOD}
            await world.weather(f"{{api: {{{api}}}, {GONE}}}")
            (failing,) = await life.launch(within=1800, give_up=3600)
            probes = await life.until(lambda them: all(probe.answer for probe in them))
            answers = {probe.probe: probe.answer.result.value for probe in probes if probe.answer}
            assert answers.pop(failing) == result
            assert set(answers.values()) == {"accepted"}
            assert await life.total("publish_requests_total", result=result) == 1
            assert await life.total("publish_requests_total", result="accepted") == 1
            if at_once is not None:
                probes = await finished(life, world)
            failed = next(probe for probe in probes if probe.probe == failing)
            # Unanswered is no proof that nothing was created: what may still arrive is waited for.
            assert set(verdicts(failed).values()) == {at_once or ("open", "open")}
            await life.assert_whole()


@pytest.mark.parametrize(
    "blindness", ["logins: refused", "requests: {error_rate: 1.0}, pushes: {drop: 1.0}"], ids=["refused", "failing"]
)
async def test_defect_05_blind_is_not_lost(tmp_path: Path, blindness: str) -> None:
    """What cannot be read is open beyond its horizon, and resolved from history once it can be read again."""
    async with place(tmp_path, speed=15) as world, world.life() as life:
        await world.weather(everywhere(blindness))
        world.drop()
        await life.launch(within=15, give_up=25)
        for observer in ("mailbox-1", "slack", "discord"):
            await life.blind_since_horizon(observer)
        assert found(await life.until(bool)) == {("open", "open")}
        await world.weather("seed: 1")
        assert {outcome for _, outcome in found(await finished(life, world))} == {"delivered"}
        assert await life.total("deliveries_total", outcome="lost") == 0


async def test_defect_06_total_outage_shows_at_the_deadline(tmp_path: Path) -> None:
    """With nothing arriving at all, overdue rises at the deadline and lost at the horizon."""
    async with place(tmp_path, GONE) as world, world.life() as life:
        await life.launch(2, within=1, give_up=3)
        await life.until(lambda probes: found(probes) == {("overdue", "open")})
        assert await life.total("timeliness_total", verdict="overdue") == 6
        assert await life.total("deliveries_total") == 0
        for probe in await finished(life, world):
            for delivery in probe.deliveries:
                assert verdict(delivery) == ("overdue", "lost")
                assert probe.requested_at is not None
                assert delivery.timeliness is not None
                assert delivery.outcome is not None
                assert delivery.timeliness.settled_at - probe.requested_at >= 1
                assert delivery.outcome.settled_at - probe.requested_at >= 3
        assert await life.total("deliveries_total", outcome="lost") == 6
