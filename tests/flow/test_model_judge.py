"""Facts about an honest world, fed in the order in which they become known: no verdict is ever untrue of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.clock import Instant
from prober.correlate import CoverageFact, DeliveryFacts, Offset, SightingFact, StepFact
from prober.interval import Interval
from prober.judge import blind_grace
from prober.ledger.settling import Decision
from prober.model import Arrive, How, PublishResult, Stamp, StepState
from prober.stages import decide

WITHIN, GIVE_UP = 8.0, 24.0
START = Instant(1_800_000_000.0, 1000.0, "boot")
PROVIDER = 5000.25
END = GIVE_UP + blind_grace(GIVE_UP) + 40
ACCEPTED, INTERRUPTED = PublishResult.ACCEPTED, PublishResult.INTERRUPTED


def at(seconds: float) -> Instant:
    return START.plus(seconds)


@dataclass(frozen=True)
class Read:
    """A complete read from ``started`` to ``ended``; one that failed shows nothing."""

    started: float
    ended: float
    fails: bool = False
    continues: bool = True


@dataclass(frozen=True)
class World:
    """What truly happened, in seconds since the claim.

    The request left at ``requested``; the answer, or the notice of our death, was on record at ``answered``. The
    message became visible at ``visible`` (None: never), on a sister channel at ``sister``; a push came ``push``
    seconds after it (None: it was lost). ``stopped`` is when the stop of what must not arrive was answered.
    """

    result: PublishResult
    requested: float
    answered: float
    visible: float | None
    sister: float | None
    push: float | None
    reads: tuple[Read, ...]
    scheduled: float | None = None
    stopped: float | None = None
    damaged: bool = False
    misplaced: bool = False
    stamped: bool = False

    @property
    def origin(self) -> float:
        """The true instant from which times count."""
        return self.requested if self.scheduled is None else self.scheduled

    @property
    def latency(self) -> float:
        return float("inf") if self.visible is None else self.visible - self.origin


@dataclass
class Life:
    """What is known of a world as time goes on, and what was settled when."""

    world: World
    settled: dict[str, tuple[str, str, float]] = field(default_factory=dict)
    latencies: list[Interval] = field(default_factory=list)

    def moments(self) -> list[float]:
        """Every instant at which something becomes known, and some at which only time has passed."""
        world = self.world
        times = [world.answered, END, *(read.ended for read in world.reads), *range(0, int(END), 10)]
        times += [t for t in (world.stopped, world.sister) if t is not None]
        if world.visible is not None and world.push is not None:
            times.append(world.visible + world.push)
        return sorted(t for t in times if t >= 0)

    def run(self) -> None:
        for now in self.moments():
            decision = decide(self.facts(now), at(now))
            if decision is not None:
                self.settle(decision, now)

    def settle(self, decision: Decision, now: float) -> None:
        for question, finding in (("timeliness", decision.timeliness), ("outcome", decision.outcome)):
            if finding is not None and question not in self.settled:
                self.settled[question] = (finding.verdict.value, finding.reason, now)
        if decision.latency is not None and (decision.timeliness or decision.outcome):
            assert decision.contradiction == ""
            self.latencies.append(decision.latency)

    def facts(self, now: float) -> DeliveryFacts:
        """What is on record at ``now``: nothing that happened is known before it was seen."""
        world = self.world
        answered = world.answered <= now
        requested = None if world.result is INTERRUPTED or not answered else at(world.requested)
        step = StepFact(0, StepState.ANSWERED if answered else StepState.TAKEN, world.result if answered else None,
                        at(0), requested, at(world.answered) if answered else None)  # fmt: skip
        stop = None
        if world.scheduled is not None and world.stopped is not None:
            done = world.stopped <= now
            stop = StepFact(1, StepState.ANSWERED if done else StepState.TAKEN, ACCEPTED if done else None, at(0),
                            at(world.stopped), at(world.stopped) if done else None)  # fmt: skip
        cover, failed = self.coverage(now)
        return DeliveryFacts(
            within=WITHIN, give_up=GIVE_UP, arrive=Arrive.ALWAYS if world.stopped is None else Arrive.NEVER,
            scheduled_time=None if world.scheduled is None else at(world.scheduled).wall,
            step=step, stop=stop, sighting=self.sighting(now),
            seen_elsewhere=world.sister is not None and world.sister <= now, coverage=cover, failed_read=failed,
            served=True,
            offsets={"provider": Offset(Interval(PROVIDER - 0.5, PROVIDER + 0.5), START.boot_id, START.boottime)},
        )  # fmt: skip

    def coverage(self, now: float) -> tuple[CoverageFact | None, Instant | None]:
        cover: CoverageFact | None = None
        failed: Instant | None = None
        for read in self.reads_until(now):
            if read.fails:
                failed = at(read.started)
                continue
            since = cover.since if cover is not None and read.continues else at(read.started)
            cover, failed = CoverageFact(since, at(read.started)), None
        return cover, failed

    def reads_until(self, now: float) -> Iterator[Read]:
        return (read for read in self.world.reads if read.ended <= now)

    def sighting(self, now: float) -> SightingFact | None:
        """The message as it first came on record: pushed, or by the first read that began after it was visible."""
        visible = self.world.visible
        if visible is None:
            return None
        shown = [read for read in self.world.reads if not read.fails and read.started >= visible and read.continues]
        receipts = [(read.ended, How.POLL) for read in shown[:1]]
        if self.world.push is not None:
            receipts.append((visible + self.world.push, How.PUSH))
        if not receipts or min(receipts)[0] > now:
            return None
        seen, how = min(receipts)
        lower: float | None = None
        for read in self.reads_until(seen):
            if not read.fails and read.started < visible:
                lower = read.started
        # A stamp's bounds rest on a clock that is half a second off at the most.
        stamp = Stamp(float((visible + START.boottime + PROVIDER) // 1), 1.0, "provider")
        failed = ("text missing",) if self.world.damaged else ()
        lacked = None if lower is None else at(lower)
        return SightingFact(lacked, at(seen), how, self.world.misplaced, failed, stamp if self.world.stamped else None)


@st.composite
def reads_of(draw: st.DrawFn) -> tuple[Read, ...]:
    """Reads one after another from before the claim until the end, some of them failing or beginning anew."""
    time = draw(st.sampled_from([-5.0, -1.0, 2.0]))
    found = []
    while time < END:
        took = draw(st.sampled_from([0.0, 0.25, 1.0]))
        kind = draw(st.sampled_from(["sees"] * 8 + ["fails", "fails", "anew"]))
        found.append(Read(time, time + took, fails=kind == "fails", continues=kind != "anew"))
        time += took + draw(st.sampled_from([0.25, 1.0, 2.5, 8.0] if time < WITHIN else [2.5, 8.0, 30.0]))
    return tuple(found)


times = st.integers(0, 160).map(lambda quarters: quarters / 4)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Any honest world: nothing is visible before it was asked for, and a message that must be created exists."""
    result = draw(st.sampled_from([ACCEPTED, ACCEPTED, ACCEPTED, INTERRUPTED, PublishResult.ERROR]))
    requested = draw(st.sampled_from([0.0, 0.25, 5.0]))
    answered = requested + draw(st.sampled_from([0.0, 0.5, 6.0, 20.0]))
    scheduled = draw(st.sampled_from([None, None, 10.0]))
    stopped = None
    if scheduled is not None and draw(st.booleans()):
        stopped = answered + draw(st.sampled_from([0.25, 4.0, 12.0]))
    return World(
        result=result, requested=requested, answered=answered,
        visible=draw(st.none() | times.map(lambda t: t + requested)),
        sister=draw(st.none() | times.map(lambda t: t + requested)),
        push=draw(st.none() | st.sampled_from([0.0, 0.25, 5.0])), reads=draw(reads_of()),
        scheduled=scheduled, stopped=stopped, damaged=draw(st.booleans()), misplaced=draw(st.booleans()),
        stamped=draw(st.booleans()),
    )  # fmt: skip


def lived(world: World) -> Life:
    life = Life(world)
    life.run()
    return life


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_no_verdict_is_untrue_of_the_world(world: World) -> None:
    """Each settled verdict is true of what really happened; what cannot be known is ambiguous, void or open."""
    life = lived(world)
    timeliness, _, _ = life.settled.get("timeliness", ("open", "", 0.0))
    outcome, _, when = life.settled.get("outcome", ("open", "", 0.0))
    if timeliness == "on_time":
        assert world.latency <= WITHIN
    if timeliness == "overdue":
        assert world.latency > WITHIN
    if timeliness == "early":
        assert world.latency < 0
    if timeliness == "moot" and world.result is ACCEPTED:
        assert world.stopped is not None
    if outcome in {"delivered", "damaged", "misplaced", "unwanted"}:
        assert world.visible is not None
        assert world.visible <= when
    if outcome in {"lost", "unanswered", "withheld"}:
        assert world.latency > GIVE_UP
    if outcome == "damaged":
        assert world.damaged
    if outcome == "delivered":
        assert not world.damaged
        assert not world.misplaced
    if outcome == "withheld":
        assert world.stopped is not None
        assert world.scheduled is not None
        assert world.stopped < world.scheduled


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_every_interval_holds_the_truth(world: World) -> None:
    """However the message became known, its latency lies in the interval, by our own clock or with a stamp."""
    life = lived(world)
    for interval in life.latencies:
        assert interval.lower - 1e-6 <= world.latency <= interval.upper + 1e-6


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_more_knowledge_contradicts_no_verdict(world: World) -> None:
    """A question that was settled would be settled the same, or left open, by all that is known in the end."""
    life = lived(world)
    last = decide(life.facts(END), at(END))
    assert last is not None
    for question, finding in (("timeliness", last.timeliness), ("outcome", last.outcome)):
        if finding is None or question not in life.settled:
            continue
        before, after = life.settled[question][0], finding.verdict.value
        unknown = {"void", "ambiguous", "moot"}
        # "Counts as accepted from then on": a sister's sighting speaks only from the moment at which it came.
        late_sister = before == "unanswered"
        # What came after the horizon is a stray in the ledger and never becomes a sighting of the delivery.
        after_horizon = question == "outcome" and world.latency > GIVE_UP
        assert before == after or before in unknown or after in unknown or late_sister or after_horizon


@settings(max_examples=150, deadline=None)
@given(
    latency=st.none() | times,
    answered=st.sampled_from([0.0, 1.0, 12.0]),
    scheduled=st.none() | st.just(10.0),
    push=st.none() | st.sampled_from([0.0, 0.25, 5.0]),
    others=st.lists(times, max_size=6),
)
def test_reads_around_the_bounds_leave_nothing_void(
    latency: float | None, answered: float, scheduled: float | None, push: float | None, others: list[float]
) -> None:
    """With a read that ends by the deadline, one that starts at it and one at the horizon, all is known but for a band.

    The band reaches from the start of the read before the deadline to the end of the one after it, and no further.
    """
    origin, took = scheduled or 0.0, 0.25
    deadline, horizon = origin + WITHIN, origin + GIVE_UP
    just_after = 1 / 64  # a read that starts at the very instant bounds by a lower that equals the deadline
    starts = sorted({-1.0, deadline - took, deadline + just_after, horizon, *others})
    world = World(
        result=ACCEPTED, requested=0.0, answered=answered, visible=latency, sister=None, push=push,
        reads=tuple(Read(start, start + took) for start in starts), scheduled=scheduled,
    )  # fmt: skip
    life = lived(world)
    timeliness, outcome = life.settled["timeliness"][0], life.settled["outcome"][0]
    assert outcome in {"delivered", "lost"}
    if timeliness == "ambiguous":
        assert WITHIN - took < world.latency <= WITHIN + just_after + took
    else:
        assert timeliness == ("on_time" if world.latency <= WITHIN else "overdue") or world.latency < 0
    assert life.settled["timeliness"][2] <= max(answered, deadline + 3)


@pytest.mark.parametrize("stamped", [True, False])
def test_stalled_and_interrupted_request_accuses_nobody(stamped: bool) -> None:
    """The claim was on record long before the request left and we died: what came at once is not overdue."""
    reads = tuple(Read(float(start), float(start)) for start in range(-1, 60))
    life = lived(World(INTERRUPTED, 20.0, 21.0, 20.75, 20.25, None, reads, stamped=stamped))
    assert life.settled["timeliness"][0] == "ambiguous"
    assert life.settled["outcome"][0] == "delivered"
