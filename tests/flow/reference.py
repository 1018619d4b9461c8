"""A second opinion on every verdict, written from the design's sections 4 and 6 to 8 alone.

It keeps the plain facts in lists, asks neither the ledger nor the judge, and answers each question anew at every pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from prober.clock import Instant

Verdict = tuple[str, str]
"""A verdict's word, and the reason where the design names one (void)."""

Mail = tuple[str, str, int, str]
"""The hash of a mail's header block, the folder (under its numbering) in which it was seen, by which read, its id."""

LEARNING_TIME = 600.0


def surely_by(moment: Instant, bound: Instant) -> bool:
    """Whether ``moment`` was certainly not after ``bound``."""
    return moment.since(bound) + moment.doubt(bound) <= 0


def surely_from(moment: Instant, bound: Instant) -> bool:
    """Whether ``moment`` was certainly not before ``bound``."""
    return moment.since(bound) - moment.doubt(bound) >= 0


def surely_after(moment: Instant, bound: Instant) -> bool:
    """Whether ``moment`` was certainly later than ``bound``."""
    return moment.since(bound) - moment.doubt(bound) > 0


@dataclass(eq=False)
class Act:
    """One step and what became of it."""

    number: int
    due: Instant
    late_after: float
    after: Act | None = None
    channel: str = ""
    taken: Instant | None = None
    requested: Instant | None = None
    ended: Instant | None = None
    result: str = ""

    @property
    def asked(self) -> Act:
        """The step whose request stands for this one: what was skipped shares the end of what it waited for."""
        return self.after.asked if self.after and self.result and self.taken is None else self

    @property
    def earliest(self) -> Instant | None:
        """When the request left at the earliest, None when nothing of it is on record."""
        return self.asked.requested or self.asked.taken

    @property
    def latest(self) -> Instant | None:
        """When it left at the latest: an interrupted one by the time at which the death was noticed."""
        return self.asked.ended if self.asked.result == "interrupted" else self.earliest


@dataclass(eq=False)
class Sight:
    """One message on record; ``lower`` is the start of the last complete read that lacked it."""

    channel: str
    id: str
    fingerprint: str
    genuine: tuple[str, ...]
    unsigned: tuple[str, ...]
    bad: str
    old: bool
    allowed: bool
    lower: Instant | None
    upper: Instant
    how: str
    misplaced: bool = False
    damaged: bool = False
    stamp: float | None = None
    until: Instant | None = None
    stray: str = ""

    @property
    def folder(self) -> str:
        return self.id.rpartition(".")[0]


@dataclass(eq=False)
class Expectation:
    """One delivery, its sightings in the order in which they became its own, and its answers once given."""

    probe: str
    channel: str
    within: float
    give_up: float
    never: bool
    scheduled: float | None
    act: Act
    stop: Act | None
    first: Sight | None = None
    mails: list[Mail] = field(default_factory=list)
    copies: int = 0
    timeliness: Verdict | None = None
    outcome: Verdict | None = None
    latency: tuple[float, float, bool] | None = None

    @property
    def open(self) -> bool:
        return self.timeliness is None or self.outcome is None

    def origins(self) -> tuple[Instant, Instant]:
        """The instants from which times count at the earliest and at the latest."""
        earliest, latest = self.act.earliest, self.act.latest
        assert earliest is not None
        assert latest is not None
        if self.scheduled is not None:
            earliest = latest = earliest.at_wall(self.scheduled)
        return earliest, latest


@dataclass
class Coverage:
    """The span in which a channel is known to have been read completely."""

    since: Instant
    mark: Instant


@dataclass
class Clock:
    """Bounds on a provider's clock minus boottime, when they held, and the last step that was noticed."""

    low: float
    high: float
    at: float
    since: float = float("-inf")


@dataclass
class Reference:
    """The facts, and what follows from them."""

    expectations: list[Expectation] = field(default_factory=list)
    acts: dict[tuple[str, int], Act] = field(default_factory=dict)
    keys: list[tuple[str, str, str]] = field(default_factory=list)  # value, probe, channel ("": all)
    waiting: list[Sight] = field(default_factory=list)
    strays: list[tuple[str, str]] = field(default_factory=list)
    sights: dict[tuple[str, str], Sight] = field(default_factory=dict)
    loose: dict[str, list[Mail]] = field(default_factory=dict)  # of no delivery (yet), by channel
    turn: int = 0
    coverage: dict[str, Coverage] = field(default_factory=dict)
    failed_read: dict[str, Instant] = field(default_factory=dict)
    clocks: dict[tuple[str, str], Clock] = field(default_factory=dict)
    observer_of: dict[str, str] = field(default_factory=dict)

    # publish

    def claim(self, now: Instant) -> set[tuple[str, int]]:
        """Take what is due; a first step that is too late is never taken."""
        taken = set()
        for (probe, number), act in self.acts.items():
            ready = act.after is None or act.after.result == "accepted"
            if act.taken or act.result or not ready or now.since(act.due) < 0:
                continue
            if act.after is None and now.since(act.due) > act.late_after:
                self.end(probe, act, "own_fault", None, now)
            else:
                act.taken = now
                taken.add((probe, number))
        return taken

    def end(self, probe: str, act: Act, result: str, requested: Instant | None, ended: Instant) -> None:
        """A step's end; what waits for one that was not accepted shares it."""
        act.result, act.requested, act.ended = result, requested, ended
        for (owner, _), other in self.acts.items():
            if owner == probe and other.after is act and not other.result and result != "accepted":
                other.result, other.ended = result, ended

    def learn(self, values: list[tuple[str, str, str]]) -> None:
        """Keys that an answer told, and the messages that waited for them."""
        self.turn += 1
        self.keys += values
        told = {value for value, _, _ in values}
        for sight in list(self.waiting):
            owners = self.owners(sight.channel, told.intersection(sight.unsigned))
            if owners:
                self.waiting.remove(sight)
                self.loose[sight.channel] = [mail for mail in self.loose[sight.channel] if mail[3] != sight.id]
                for owner in owners:
                    self.attach(owner, sight)

    # observe

    def owners(self, channel: str, values: set[str]) -> list[Expectation]:
        """The deliveries that these keys have on this channel."""
        probes = {probe for value, probe, bound in self.keys if value in values and bound in {"", channel}}
        return [e for e in self.expectations if e.probe in probes and e.channel == channel]

    def record(self, sight: Sight, now: Instant) -> None:
        """One message, for the first time or again."""
        known = self.sights.get((sight.channel, sight.id))
        if known is not None:
            judged = any(e.first is known and e.latency is not None for e in self.expectations)
            if sight.upper.since(known.upper) < 0 and not judged:
                known.upper, known.how = sight.upper, sight.how
            return
        self.sights[sight.channel, sight.id] = sight
        if sight.genuine:
            owners = self.owners(sight.channel, set(sight.genuine))
            if not owners:
                known_key = any(value in sight.genuine for value, _, _ in self.keys)
                sight.stray = "expired" if sight.old and not known_key else "foreign"
        elif sight.bad:
            owners, sight.stray = [], sight.bad
        elif not sight.allowed:
            owners, sight.stray = [], "unmatched"
        else:
            owners = self.owners(sight.channel, set(sight.unsigned))
            sight.stray = "" if owners else "unmatched"
        for owner in owners:
            self.attach(owner, sight)
        if sight.stray and not self.moved(self.loose.setdefault(sight.channel, []), sight):
            if not sight.genuine and not sight.bad and sight.allowed and self.may_learn(sight.channel):
                sight.until = now.plus(LEARNING_TIME)
                self.waiting.append(sight)
            else:
                self.strays.append((sight.channel, sight.stray))

    def may_learn(self, channel: str) -> bool:
        """Whether a publication that covers the channel has a step without an answer."""
        probes = {e.probe for e in self.expectations if e.channel == channel and e.open}
        return any(probe in probes and not act.result for (probe, _), act in self.acts.items())

    def attach(self, owner: Expectation, sight: Sight) -> None:
        """The first genuine sighting decides; the others are the same message moved, copies or strays."""
        if self.moved(owner.mails, sight):
            return
        late = self.after_horizon(owner, sight)
        stray = ""
        if owner.act.result == "refused":
            stray = "after_refusal"
        elif owner.first is None and (late or owner.outcome is not None):
            stray = "after_horizon"
        elif owner.first is None:
            owner.first = sight
        elif late:
            stray = "replayed"
        else:
            owner.copies += 1
        if stray:
            self.strays.append((owner.channel, stray))

    def moved(self, mails: list[Mail], sight: Sight) -> bool:
        """The same mail in another folder or under new numbers, unless one read showed both."""
        if sight.fingerprint == sight.id:
            return False  # not a mail
        same = [
            folder
            for fingerprint, folder, turn, _ in mails
            if fingerprint == sight.fingerprint and (turn != self.turn or folder == sight.folder)
        ]
        mails.append((sight.fingerprint, sight.folder, self.turn, sight.id))
        return any(same.count(folder) > same.count(sight.folder) for folder in same)

    @staticmethod
    def after_horizon(owner: Expectation, sight: Sight) -> bool:
        """Whether it certainly became visible only after the horizon."""
        if owner.act.earliest is None or sight.lower is None:
            return False
        _, latest = owner.origins()
        return surely_after(sight.lower, latest.plus(owner.give_up))

    def read(self, channel: str, started: Instant, *, continues: bool) -> None:
        """A complete read of one channel."""
        cover = self.coverage.get(channel)
        if cover is None or not continues:
            self.coverage[channel] = Coverage(started, started)
        elif started.since(cover.mark) > 0:
            cover.mark = started

    def control(self, source: str, sent: Instant, answered: Instant, stamp: float, resolution: float) -> None:
        """One exchange that a provider's clock stamped (Cristian): its offset to the boottime of this boot."""
        low, high, now = stamp - answered.boottime, stamp + resolution - sent.boottime, answered.boottime
        old = self.clocks.get((source, sent.boot_id), Clock(low, high, now))
        aged = 500e-6 * (now - old.at)
        both = Clock(max(old.low - aged, low), min(old.high + aged, high), now, old.since)
        self.clocks[source, sent.boot_id] = (
            both if both.low <= both.high else Clock(low, high, now, since=sent.boottime)
        )

    # settle

    def settle(self, now: Instant, served: set[str]) -> None:
        """Expire what waits in vain, then answer every question that is certain now."""
        for sight in [s for s in self.waiting if s.until and now.since(s.until) >= 0]:
            self.waiting.remove(sight)
            self.strays.append((sight.channel, "unmatched"))
        for e in [e for e in self.expectations if e.open and e.act.result]:
            timeliness = e.timeliness or self.judge_timeliness(e, now, served)
            outcome = e.outcome or self.judge_outcome(e, now, served)
            if (timeliness, outcome) != (e.timeliness, e.outcome) and e.first and e.latency is None:
                e.latency = self.interval(e, e.first)
            e.timeliness, e.outcome = timeliness, outcome

    def judge_timeliness(self, e: Expectation, now: Instant, served: set[str]) -> Verdict | None:
        """Was it visible within the deadline?"""
        result = e.act.result
        if result == "own_fault":
            return "void", "own_fault"
        if result in {"refused", "unreachable"} or e.never:
            return "moot", ""
        if e.first is not None:
            lower, upper, _ = self.interval(e, e.first)
            if upper < 0:
                return "early", ""
            return ("on_time" if upper <= e.within else "overdue" if lower >= e.within else "ambiguous"), ""
        if self.absent(e, e.within):
            if result == "accepted" or self.seen_by_sister(e):
                return "overdue", ""
            return ("void", "own_fault") if result == "interrupted" else ("moot", "")
        return self.void(e, e.within, now, served)

    def judge_outcome(self, e: Expectation, now: Instant, served: set[str]) -> Verdict | None:
        """What became of it?"""
        result = e.act.result
        at_once = {"own_fault": ("void", "own_fault"), "refused": ("refused", ""), "unreachable": ("unanswered", "")}
        if result in at_once:
            return at_once[result]
        if e.never:
            return self.judge_withheld(e, now, served)
        if e.first is not None:
            if self.interval(e, e.first)[0] > e.give_up:
                return "lost", ""
            return ("damaged" if e.first.damaged else "misplaced" if e.first.misplaced else "delivered"), ""
        if self.absent(e, e.give_up):
            if result == "accepted" or self.seen_by_sister(e):
                return "lost", ""
            return ("void", "own_fault") if result == "interrupted" else ("unanswered", "")
        return self.void(e, e.give_up, now, served)

    def judge_withheld(self, e: Expectation, now: Instant, served: set[str]) -> Verdict | None:
        """Of what must not arrive."""
        stop = e.stop
        if stop is None or not stop.result:
            return None
        due, _ = e.origins()
        ended = stop.ended if stop.result == "accepted" else None
        if ended is None or ended.since(due) + ended.doubt(due) >= 0:
            return "void", "stop_too_late"
        if e.first is not None:
            return "unwanted", ""
        return ("withheld", "") if self.absent(e, e.give_up) else self.void(e, e.give_up, now, served)

    def seen_by_sister(self, e: Expectation) -> bool:
        """Whether another channel that hangs on the same request saw it."""
        return any(other.first and other is not e and other.act is e.act for other in self.expectations)

    def absent(self, e: Expectation, seconds: float) -> bool:
        """Absence with coverage from the request until so long after the latest origin."""
        cover, requested = self.coverage.get(e.channel), e.act.earliest
        if cover is None or requested is None:
            return False
        return surely_by(cover.since, requested) and surely_from(cover.mark, e.origins()[1].plus(seconds))

    def void(self, e: Expectation, seconds: float, now: Instant, served: set[str]) -> Verdict | None:
        """A hole in the coverage, or blind for good; else it stays open."""
        cover, requested, (_, latest) = self.coverage.get(e.channel), e.act.earliest, e.origins()
        assert requested is not None
        if cover and not surely_by(cover.since, requested) and surely_from(cover.mark, latest.plus(seconds)):
            return "void", "no_coverage"
        if now.since(latest) < e.give_up + max(60, 0.1 * e.give_up):
            return None
        if e.channel not in served:
            return "void", "world_gone"
        reads = [self.failed_read.get(self.observer_of[e.channel]), self.failed_read.get(e.channel)]
        failed = max((read for read in reads if read), key=lambda read: read.since(latest), default=None)
        return ("void", "blind") if failed and failed.since(latest) >= e.give_up else None

    def interval(self, e: Expectation, sight: Sight) -> tuple[float, float, bool]:
        """Bounds on the latency, and whether a clock contradicts them."""
        earliest, latest = e.origins()
        requested = e.act.earliest
        assert requested is not None
        floor = requested.since(earliest)  # nothing is visible before it was asked for
        upper = max(floor, sight.upper.since(earliest) + sight.upper.doubt(earliest))
        lower = floor
        if sight.lower is not None:
            lower = max(floor, sight.lower.since(latest) - sight.lower.doubt(latest))
        alarm = lower > upper
        if alarm:
            lower = floor
        clock = self.clocks.get(("provider", earliest.boot_id))
        if sight.stamp is None or clock is None or floor + earliest.boottime < clock.since:
            return lower, upper, alarm
        unsure = max(0.0, latest.since(earliest) + latest.doubt(earliest))
        ends = (earliest.boottime + floor, earliest.boottime + upper)
        aged = 500e-6 * max(abs(end - clock.at) for end in ends)
        by_stamp = (
            sight.stamp - clock.high - aged - earliest.boottime - unsure,
            sight.stamp + 1 - clock.low + aged - earliest.boottime,
        )
        both = (max(lower, by_stamp[0]), min(upper, by_stamp[1]))
        if both[0] > both[1]:
            return lower, upper, True
        # An earlier copy, of which no push came, may stand beside what was pushed.
        return (lower if sight.how == "push" else both[0]), both[1], alarm

    def each(self, wanted: Callable[[Act], bool]) -> Iterator[tuple[str, Act]]:
        """The steps that are wanted, with their probes."""
        return ((probe, act) for (probe, _), act in self.acts.items() if wanted(act))
