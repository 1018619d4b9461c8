"""From plan to verdict on the in-process world: what the ledger says is what the world's truth says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from prober.clock import Instant
from prober.model import Batch
from prober.report.result import ProbeResult
from prober.sandbox.inprocess import WorldObserver
from tests.flow.rig import ALERT, SCENARIO, Life, Rig, conserved, total, verdicts

each = pytest.mark.usefixtures("each_database")
"""Where the database matters: the others would cost time and prove nothing more of it."""

CHANNELS = ("email", "slack", "discord")
GOOD = ("on_time", "delivered")


async def outcome(
    tmp_path: Path, weather: str, seconds: float, *, within: float = 30, give_up: float = 120, poll: float | None = None
) -> ProbeResult:
    """One probe in this weather, ``seconds`` after its launch; conservation holds."""
    rig = Rig(tmp_path, weather, poll=poll)
    async with rig.world_turning(), rig.life() as life:
        await life.launch(1, replace(SCENARIO, within=within, give_up=give_up))
        await rig.clock.advance(seconds)
        assert await life.flow.ledger.read(conserved)
        assert not life.loops.internal_errors
        (probe,) = await rig.results(life)
        assert_intervals_hold_the_truth(rig, life, probe)
        return probe


def assert_intervals_hold_the_truth(rig: Rig, life: Life, probe: ProbeResult) -> None:
    """Every measured interval intersects the instants between which the message became visible."""
    for delivery in probe.deliveries:
        if delivery.latency is None:
            continue
        address = life.channels[delivery.channel].address
        truths = [
            (visible.before.wall - (probe.requested_at or 0), visible.after.wall - (probe.requested_at or 0))
            for visible in rig.world.truth
            if visible.address == address
        ]
        assert any(
            delivery.latency.lower <= after + 1e-6 and before - 1e-6 <= delivery.latency.upper
            for before, after in truths
        ), (delivery, truths)


@each
async def test_fair_weather_is_on_time_and_delivered(tmp_path: Path) -> None:
    """Each of many deliveries is settled once, on time, with an interval that holds the truth."""
    rig = Rig(tmp_path, "channels: {email: {latency: 1s}, slack: {latency: 2s}, discord: {latency: 3s}}")
    async with rig.world_turning(), rig.life() as life:
        await life.launch(5)
        await rig.clock.advance(10)
        probes = await rig.results(life)
        assert len(probes) == 5
        for probe in probes:
            assert verdicts(probe) == dict.fromkeys(CHANNELS, GOOD)
            assert_intervals_hold_the_truth(rig, life, probe)
        assert await life.flow.ledger.read(conserved)
        assert await life.flow.ledger.read(total, "deliveries_total", outcome="delivered") == 15
        assert await life.flow.ledger.read(total, "publish_requests_total", result="accepted") == 5


async def test_lost_is_overdue_at_the_deadline_and_lost_at_the_horizon(tmp_path: Path) -> None:
    """An outage shows after the deadline, not after the horizon, with nothing arriving at all."""
    gone = "channels: {email: {loss: 1.0}, slack: {loss: 1.0}, discord: {loss: 1.0}}"
    assert verdicts(await outcome(tmp_path / "a", gone, 29.9)) == dict.fromkeys(CHANNELS, ("open", "open"))
    assert verdicts(await outcome(tmp_path / "b", gone, 30.5)) == dict.fromkeys(CHANNELS, ("overdue", "open"))
    assert verdicts(await outcome(tmp_path / "c", gone, 120.5)) == dict.fromkeys(CHANNELS, ("overdue", "lost"))


async def test_one_lossy_channel_spoils_no_other(tmp_path: Path) -> None:
    """Slack loses everything; the others stay on time."""
    probe = await outcome(tmp_path, "channels: {slack: {loss: 1.0}}", 8.5, within=3, give_up=8)
    assert verdicts(probe) == {"email": GOOD, "slack": ("overdue", "lost"), "discord": GOOD}


@pytest.mark.parametrize("poll", [None, 1.0])
async def test_arrival_after_the_deadline_is_overdue_and_delivered(tmp_path: Path, poll: float | None) -> None:
    """Late is late and delivered, not lost, with the late latency on record."""
    late = "channels: {email: {latency: 3s}, slack: {latency: 3s}, discord: {latency: 3s}}"
    probe = await outcome(tmp_path, late, 7, within=2, give_up=6, poll=poll)
    assert verdicts(probe) == dict.fromkeys(CHANNELS, ("overdue", "delivered"))
    for delivery in probe.deliveries:
        assert delivery.latency is not None
        assert delivery.latency.lower >= 2
        assert delivery.latency.upper == pytest.approx(3, abs=0.01)


@each
async def test_unreachable_target_is_unanswered_at_once(tmp_path: Path) -> None:
    """Connection refused: nothing left us, and nobody has to wait for the horizon to hear it."""
    probe = await outcome(tmp_path, "windows: [{from: 0s, to: 60s, api: {outage: true}}]", 1)
    assert verdicts(probe) == dict.fromkeys(CHANNELS, ("moot", "unanswered"))
    assert probe.answer is not None
    assert probe.answer.result == "unreachable"


async def test_5xx_that_shows_nowhere_is_moot_and_unanswered(tmp_path: Path) -> None:
    """An API that fails spends the publish budget, not every channel's."""
    probe = await outcome(tmp_path, "api: {error_rate: 1.0}", 121)
    assert verdicts(probe) == dict.fromkeys(CHANNELS, ("moot", "unanswered"))


@pytest.mark.parametrize(
    "weather",
    ["error_rate: 1.0", "accepted_but_500: 1.0", "timeout_rate: 1.0", "reset_rate: 1.0", "garbage_rate: 1.0"],
)
async def test_no_publish_is_ever_repeated(tmp_path: Path, weather: str) -> None:
    """Whatever the answer, or none: the step's request leaves once."""
    rig = Rig(tmp_path, f"api: {{{weather}}}")
    async with rig.world_turning(), rig.life() as life:
        await life.launch(2)
        await rig.clock.advance(200)
        assert len(rig.world.world.requests) == 2
        assert await life.flow.ledger.read(total, "publish_requests_total") == 2


async def test_silence_on_a_push_connection_is_no_sight(tmp_path: Path) -> None:
    """Where pushes are dropped only the reads around the deadline tell: the bounds are theirs, and hold the truth."""
    pushes = "pushes: {drop: 1.0}"
    weather = f"channels: {{slack: {{latency: 10s, {pushes}}}, discord: {{latency: 40s, {pushes}}}}}"
    probe = await outcome(tmp_path, weather, 121)
    found = {delivery.channel: delivery for delivery in probe.deliveries}
    assert verdicts(probe) == {"email": GOOD, "slack": GOOD, "discord": ("overdue", "delivered")}
    slack, discord = found["slack"].latency, found["discord"].latency
    assert slack is not None
    assert discord is not None
    assert slack.lower < 10 < slack.upper <= 30
    assert 30 <= discord.lower < 40 < discord.upper


async def test_copy_after_the_verdict_changes_nothing(tmp_path: Path) -> None:
    """A copy that comes long after the delivery was settled counts as a copy, after the horizon as replayed."""
    weather = "channels: {slack: {copies: 1.0, copies_later: 60s}, discord: {copies: 1.0, copies_later: 200s}}"
    rig = Rig(tmp_path, weather, poll=5.0)
    async with rig.world_turning(), rig.life() as life:
        await life.launch(1)
        await rig.clock.advance(300)
        (probe,) = await rig.results(life)
        assert verdicts(probe) == dict.fromkeys(CHANNELS, GOOD)
        assert {delivery.channel: delivery.copies for delivery in probe.deliveries}["slack"] == 1
        assert await life.flow.ledger.read(total, "copies_total", channel="slack") == 1
        assert await life.flow.ledger.read(total, "strays_total", channel="discord", reason="replayed") == 1
        assert await life.flow.ledger.read(conserved)


async def test_half_open_connections_are_blindness(tmp_path: Path) -> None:
    """Connections that stand and bring nothing: nothing is lost, and what came meanwhile is found afterwards."""
    rig = Rig(tmp_path, "windows: [{from: 2s, to: 100s, channels: {slack: {half_open: true}}}]")
    async with rig.world_turning(), rig.life() as life:
        await rig.clock.advance(5)
        await life.launch(1)
        await rig.clock.advance(90)
        (probe,) = await rig.results(life)
        assert verdicts(probe)["slack"] == ("open", "open")
        await rig.clock.advance(300)
        (probe,) = await rig.results(life)
        assert verdicts(probe)["slack"] == ("ambiguous", "delivered")
        assert_intervals_hold_the_truth(rig, life, probe)


async def test_5xx_that_was_accepted_all_the_same_is_judged_by_arrival(tmp_path: Path) -> None:
    """A 500 is no proof that nothing was created: what arrives counts, and publish stays bad."""
    probe = await outcome(tmp_path, "api: {accepted_but_500: 1.0}", 5)
    assert verdicts(probe) == dict.fromkeys(CHANNELS, GOOD)
    assert probe.answer is not None
    assert probe.answer.result == "error"


@each
async def test_5xx_seen_on_one_channel_makes_its_sisters_lost(tmp_path: Path) -> None:
    """One sighting proves the publication; where it is then missing, it is lost and not unanswered."""
    weather = "{api: {accepted_but_500: 1.0}, channels: {slack: {loss: 1.0}}}"
    probe = await outcome(tmp_path, weather, 121)
    assert verdicts(probe) == {"email": GOOD, "slack": ("overdue", "lost"), "discord": GOOD}


@each
async def test_message_that_arrives_before_the_answer_is_kept(tmp_path: Path) -> None:
    """Mail can be there before the API has answered; it is settled once the answer has told the request's instant."""
    weather = "{api: {latency: 5s}, channels: {email: {latency: 1ms}, slack: {latency: 1ms}, discord: {latency: 1ms}}}"
    probe = await outcome(tmp_path, weather, 10)
    assert verdicts(probe) == dict.fromkeys(CHANNELS, GOOD)
    assert all(delivery.latency is not None and delivery.latency.upper < 1 for delivery in probe.deliveries)


async def test_blind_channel_is_resolved_from_history(tmp_path: Path) -> None:
    """While Slack cannot be read nothing is lost; when sight returns the message is found, with what is not known."""
    rig = Rig(tmp_path, "windows: [{from: 2s, to: 60s, channels: {slack: {outage: true}}}]")
    async with rig.world_turning(), rig.life() as life:
        await rig.clock.advance(5)
        await life.launch(1)
        await rig.clock.advance(50)
        (probe,) = await rig.results(life)
        assert verdicts(probe)["slack"] == ("open", "open")
        await rig.clock.advance(30)
        (probe,) = await rig.results(life)
        slack = {delivery.channel: delivery for delivery in probe.deliveries}["slack"]
        assert verdicts(probe)["slack"] == ("ambiguous", "delivered")
        assert slack.latency is not None
        assert slack.latency.upper > 50
        assert_intervals_hold_the_truth(rig, life, probe)


@each
async def test_channel_that_stays_blind_is_void_and_never_lost(tmp_path: Path) -> None:
    """Blind beyond horizon and grace: void with its reason, and nothing is said about the target."""
    rig = Rig(tmp_path, "windows: [{from: 2s, to: 1h, channels: {slack: {outage: true}}}]")
    async with rig.world_turning(), rig.life() as life:
        await rig.clock.advance(5)
        await life.launch(1)
        await rig.clock.advance(179)
        (probe,) = await rig.results(life)
        assert verdicts(probe) == {"email": GOOD, "slack": ("open", "open"), "discord": GOOD}
        await rig.clock.advance(10)
        (probe,) = await rig.results(life)
        slack = {delivery.channel: delivery for delivery in probe.deliveries}["slack"]
        assert verdicts(probe)["slack"] == ("void", "void")
        assert slack.outcome is not None
        assert slack.outcome.reason == "blind"
        assert await life.flow.ledger.read(conserved)


class Faulty(WorldObserver):
    """An adapter with an error of our own: on Slack every read after the first raises it."""

    reads = 0

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        self.reads += 1
        if self.name == "slack-observer" and self.reads > 1:
            raise TypeError("a bug")
        return await super().read(cursor, since)


async def test_error_of_our_own_in_a_read_is_void_and_ends(tmp_path: Path) -> None:
    """A bug in an adapter is blindness, counted as ours: the delivery ends void and the others stay right."""
    rig = Rig(tmp_path, "channels: {slack: {loss: 1.0}}")
    rig.observer = Faulty
    async with rig.world_turning(), rig.life() as life:
        await life.launch(1)
        await rig.clock.advance(190)
        (probe,) = await rig.results(life)
        assert verdicts(probe) == {"email": GOOD, "slack": ("void", "void"), "discord": GOOD}
        assert life.loops.internal_errors["observe", "TypeError"] > 0
        assert await life.flow.ledger.read(conserved)


async def test_observer_that_never_saw_before_the_request_claims_no_absence(tmp_path: Path) -> None:
    """Coverage that begins after the request cannot prove a loss: void, no coverage."""
    weather = "{channels: {slack: {loss: 1.0}}, windows: [{from: 0s, to: 20s, channels: {slack: {outage: true}}}]}"
    probe = await outcome(tmp_path, weather, 130)
    assert verdicts(probe) == {"email": GOOD, "slack": ("void", "void"), "discord": GOOD}


@each
@pytest.mark.parametrize(
    ("weather", "found"),
    [("damage", ("on_time", "damaged")), ("junk", ("on_time", "misplaced")), ("copies", GOOD)],
)
async def test_what_is_wrong_with_a_message(tmp_path: Path, weather: str, found: tuple[str, str]) -> None:
    """Damage and junk change the outcome, not the timeliness; a copy counts as a copy and not as a delivery."""
    probe = await outcome(tmp_path, f"channels: {{email: {{{weather}: 1.0}}}}", 10)
    assert verdicts(probe)["email"] == found
    email = {delivery.channel: delivery for delivery in probe.deliveries}["email"]
    assert (email.copies > 0) == (weather == "copies")


@each
async def test_life_that_ends_before_the_arrival_is_resolved_by_the_next(tmp_path: Path) -> None:
    """A restart between request and arrival: the delivery is settled once, and its step is never taken again."""
    rig = Rig(tmp_path, "channels: {email: {latency: 10s}, slack: {latency: 10s}, discord: {latency: 40s}}")
    async with rig.world_turning():
        async with rig.life() as life:
            await life.launch(3)
            await rig.clock.advance(5)
        await rig.clock.advance(10)
        async with rig.life() as life:
            await rig.clock.advance(60)
            for probe in await rig.results(life):
                assert verdicts(probe) == {"email": GOOD, "slack": GOOD, "discord": ("overdue", "delivered")}
                assert_intervals_hold_the_truth(rig, life, probe)
            assert await life.flow.ledger.read(conserved)
            assert len(rig.world.world.requests) == 3


@each
async def test_life_that_ends_during_the_request_is_interrupted(tmp_path: Path) -> None:
    """Died between claim and answer: arrival decides, the publish is interrupted, and nothing is sent twice."""
    rig = Rig(tmp_path, "{api: {latency: 5s}, channels: {slack: {loss: 1.0}}}")
    async with rig.world_turning():
        async with rig.life() as life:
            await life.launch(1)
            await rig.clock.advance(1)
        async with rig.life() as life:
            await rig.clock.advance(130)
            (probe,) = await rig.results(life)
            assert probe.answer is not None
            assert probe.answer.result == "interrupted"
            assert verdicts(probe) == {"email": GOOD, "slack": ("overdue", "lost"), "discord": GOOD}
            assert len(rig.world.world.requests) == 1


@each
async def test_planned_and_never_requested_is_our_own_fault(tmp_path: Path) -> None:
    """We were down when it was due: void, and nothing is published late."""
    rig = Rig(tmp_path)
    async with rig.world_turning():
        async with rig.life() as life:
            now = rig.clock.now()
            from prober.draft import draft_probe
            from prober.ledger.planning import plan_probes

            channels = tuple(life.channels[name] for name in CHANNELS)
            draft = draft_probe(life.drafting, SCENARIO, channels, slot=now.wall + 5, now=now)
            await life.flow.ledger.write(plan_probes, [draft])
        await rig.clock.advance(60)
        async with rig.life() as life:
            await rig.clock.advance(1)
            (probe,) = await rig.results(life)
            assert verdicts(probe) == dict.fromkeys(CHANNELS, ("void", "void"))
            assert not rig.world.world.requests
            assert await life.flow.ledger.read(total, "slots_total", state="late") == 1


async def test_vanished_world_is_void_world_gone(tmp_path: Path) -> None:
    """A new world behind the old names has other identities: what was expected in the old one is void."""
    rig = Rig(tmp_path, "channels: {email: {loss: 1.0}, slack: {loss: 1.0}, discord: {loss: 1.0}}")
    async with rig.world_turning(), rig.life() as life:
        await life.launch(1)
        await rig.clock.advance(1)
    rig.world = rig.new_world(world_id="w0rld2")
    async with rig.world_turning(), rig.life() as life:
        await rig.clock.advance(200)
        (probe,) = await rig.results(life)
        assert verdicts(probe) == dict.fromkeys(CHANNELS, ("void", "void"))
        assert {d.outcome.reason for d in probe.deliveries if d.outcome} == {"world_gone"}


@pytest.mark.parametrize("step", [-60.0, 60.0, 86_400.0])
async def test_wall_clock_step_changes_no_verdict(tmp_path: Path, step: float) -> None:
    """Deadlines and latencies count on boottime; an NTP step in flight moves neither."""
    rig = Rig(tmp_path, "channels: {email: {latency: 10s}, slack: {latency: 31s}, discord: {loss: 1.0}}")
    async with rig.world_turning(), rig.life() as life:
        await life.launch(1)
        await rig.clock.advance(5)
        rig.clock.step_wall(step)
        await rig.clock.advance(120)
        (probe,) = await rig.results(life)
        assert verdicts(probe) == {"email": GOOD, "slack": ("overdue", "delivered"), "discord": ("overdue", "lost")}
        email = probe.deliveries[0].latency
        assert email is not None
        assert email.upper == pytest.approx(10, abs=0.01)


@each
async def test_scheduled_newsletter_counts_from_its_scheduled_time(tmp_path: Path) -> None:
    """A newsletter for a later time is early before it, on time within the deadline after it."""
    rig = Rig(tmp_path, "channels: {email: {latency: 4s}}")
    scenario = replace(SCENARIO, channels=("email", "email-2"), scheduled_after=20.0, within=10.0, content=ALERT)
    async with rig.world_turning(), rig.life(observers=("email", "email-2")) as life:
        await life.launch(1, scenario)
        await rig.clock.advance(22)
        (probe,) = await rig.results(life)
        assert verdicts(probe)["email"] == ("open", "open")
        await rig.clock.advance(10)
        (probe,) = await rig.results(life)
        assert verdicts(probe) == {"email": GOOD, "email-2": GOOD}
        email = probe.deliveries[0].latency
        assert email is not None
        assert email.upper == pytest.approx(4, abs=0.1)
