"""The release gate's decision: what the probes said so far, a profile -> PASS, FAIL, INCONCLUSIVE or VOID, and why.

Pure; the command drives the stages. Each channel of each scenario has a sequential test of its own
(:class:`prober.statistics.SequentialTest`), never pooled with another: a good one would hide a bad one. All must pass;
one that fails is enough to fail, so each spends its part of the chance of a wrong FAIL.

**Probes count in the order of their launches, not of their settlement**: a probe's event counts only when all earlier
ones on its channel are decided. A good delivery settles in a tenth of a second, a bad one only at its deadline. In the
order of settlement a test would at any moment have seen all of the good ones and none of the bad ones of the last half
minute, and a burst of good ones would carry it over the line before the bad ones among them may speak: more wrong
passes than the test promises (tests/unit/test_gate.py measures how many). In launch order whether an event is counted
never depends on what it says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import compress

from prober.durations import format_duration
from prober.model import Outcome, PublishResult, Timeliness, VoidReason
from prober.report.gate_values import ChannelFinding, GateFinding, Limit, names_of, words_text
from prober.report.ruling import BAD_OUTCOMES, answer_text
from prober.report.values import DeliveryResult, ProbeResult, Result
from prober.statistics import Decision, SequentialTest, quick, strict

MOST_VOID = 0.1
"""The share of probes that may be void before a channel says nothing."""

MAX_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Profile:
    """How much a gate is to prove. ``spread`` is the least time, in seconds, over which a pass is spread."""

    name: str
    test: Callable[[int], SequentialTest]
    spread: float
    max_probes: int
    max_time: float

    def every(self, tests: int) -> float:
        """Seconds between two launches, so that the earliest pass comes ``spread`` seconds after the first."""
        return self.spread / (self.test(tests).pass_at(0) - 1)


PROFILES: Mapping[str, Profile] = {
    "quick": Profile("quick", quick, 90.0, 120, 600.0),
    "strict": Profile("strict", strict, 180.0, 200, 900.0),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What one test is about."""

    scenario: str
    channel: str
    within: float


class Event(StrEnum):
    """What one probe says on one channel."""

    GOOD = "good"
    BAD = "bad"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Said:
    """An event, the word for it, and the probe."""

    event: Event
    word: str
    probe: str


_NOT_ACCEPTED = {PublishResult.REFUSED, PublishResult.ERROR, PublishResult.TIMEOUT, PublishResult.UNREACHABLE}
_NOT_ON_TIME = {Timeliness.OVERDUE, Timeliness.EARLY, Timeliness.AMBIGUOUS}


def said_by(probe: ProbeResult, delivery: DeliveryResult) -> Said | None:
    """What a probe says on a channel; None while that is open.

    A publication that was not accepted is bad at once on each of its channels, whatever arrives.
    """
    answer = probe.answer
    timeliness = delivery.timeliness.verdict if delivery.timeliness else None
    outcome = delivery.outcome.verdict if delivery.outcome else None
    if answer is not None and answer.result in _NOT_ACCEPTED:
        why = answer_text(answer)
        return Said(Event.BAD, f"publish {answer.result}: {why}" if why else f"publish {answer.result}", probe.probe)
    if timeliness is Timeliness.VOID and delivery.timeliness is not None:
        return Said(Event.VOID, delivery.timeliness.reason, probe.probe)
    if timeliness in _NOT_ON_TIME:
        return Said(Event.BAD, str(timeliness), probe.probe)
    if outcome in BAD_OUTCOMES:
        return Said(Event.BAD, str(outcome), probe.probe)
    if outcome is Outcome.VOID and delivery.outcome is not None:
        return Said(Event.VOID, delivery.outcome.reason, probe.probe)
    if timeliness is None or outcome is None:
        return None
    return Said(Event.GOOD, str(outcome if timeliness is Timeliness.MOOT else timeliness), probe.probe)


def judge_gate(
    profile: Profile, asked: Sequence[Asked], probes: Iterable[ProbeResult], limit: Limit | None = None
) -> GateFinding:
    """Judge every channel, and the gate by them. ``probes`` stand in the order of their launches.

    ``limit`` says what has ended the gate, if it has not been decided.
    """
    test = profile.test(len(asked))
    found: dict[tuple[str, str], list[Said | None]] = {(each.scenario, each.channel): [] for each in asked}
    for probe in probes:
        for delivery in probe.deliveries:
            if (probe.scenario, delivery.channel) in found:
                found[probe.scenario, delivery.channel].append(said_by(probe, delivery))
    channels = tuple(judge_channel(test, each, found[each.scenario, each.channel]) for each in asked)
    result = _result(channels)
    return GateFinding(
        profile=profile.name,
        result=result,
        reason=_reason(result, channels, limit),
        proves=_proves(result, test, channels),
        leaves_open=_leaves_open(result, test),
        channels=channels,
        limit=limit if result is Result.INCONCLUSIVE else None,
    )


def judge_channel(test: SequentialTest, asked: Asked, said: Sequence[Said | None]) -> ChannelFinding:
    """Walk through the probes in launch order up to the first that is open or to the decision, which stands."""
    counts: Counter[Event] = Counter()
    words: Counter[str] = Counter()
    examples: list[str] = []
    result, seen = Result.INCONCLUSIVE, 0
    for one in said:
        if one is None:
            break
        seen += 1
        counts[one.event] += 1
        if one.event is not Event.GOOD:
            words[one.word] += 1
            examples.append(one.probe)
        result = _decide(test, counts, one)
        if result is not Result.INCONCLUSIVE:
            break
    decided, events = result is not Result.INCONCLUSIVE, counts[Event.GOOD] + counts[Event.BAD]
    later = said[seen:]
    return ChannelFinding(
        scenario=asked.scenario,
        channel=asked.channel,
        within=asked.within,
        result=result,
        good=counts[Event.GOOD],
        bad=counts[Event.BAD],
        void=counts[Event.VOID],
        pending=0 if decided else len(later),
        needed=0 if decided else test.pass_at(counts[Event.BAD]) - events,
        later_bad=sum(one is not None and one.event is Event.BAD for one in later) if decided else 0,
        words=dict(words),
        examples=tuple(examples[:MAX_EXAMPLES]),
    )


def _decide(test: SequentialTest, counts: Mapping[Event, int], last: Said) -> Result:
    """What the counts say, if no smaller number said anything before."""
    good, bad, void = counts[Event.GOOD], counts[Event.BAD], counts[Event.VOID]
    if last.event is Event.VOID:
        # Judged against the earliest pass: one void probe at the start is not yet more than a tenth.
        share = void / (void + max(good + bad, test.pass_at(bad)))
        blind = last.word == VoidReason.BLIND
        return Result.VOID if blind or share > MOST_VOID else Result.INCONCLUSIVE
    decision = test.decide(good, bad)
    return {Decision.PASS: Result.PASS, Decision.FAIL: Result.FAIL, Decision.UNDECIDED: Result.INCONCLUSIVE}[decision]


def _result(channels: Sequence[ChannelFinding]) -> Result:
    """One that fails is enough; all must pass."""
    found = {channel.result for channel in channels}
    for result in (Result.FAIL, Result.VOID):
        if result in found:
            return result
    return Result.PASS if found == {Result.PASS} else Result.INCONCLUSIVE


_LIMITS = {
    Limit.PROBES: "the limit of probes was reached before it was decided",
    Limit.TIME: "the limit of time was reached before it was decided",
    Limit.INTERRUPTED: "interrupted before it was decided",
}


def _reason(result: Result, channels: Sequence[ChannelFinding], limit: Limit | None) -> str:
    """One sentence."""
    named = [(name, c) for name, c in zip(names_of(channels), channels, strict=True) if c.result is result]
    if result is Result.PASS:
        return "in time on every channel: " + ", ".join(f"{c.good} of {c.good + c.bad} on {name}" for name, c in named)
    if result is Result.FAIL:
        return "; ".join(f"{name}: {c.bad} of {c.good + c.bad} probes bad ({words_text(c.words)})" for name, c in named)
    if result is Result.VOID:
        void = "; ".join(f"{name}: {c.void} of {c.good + c.bad + c.void} void ({words_text(c.words)})"
                         for name, c in named)  # fmt: skip
        return f"nothing is said about the target, since we could not see enough: {void}"
    missing = ", ".join(f"{name} needs {c.needed} more good of {c.good + c.bad} counted" for name, c in named)
    return f"{_LIMITS[limit] if limit else 'not decided yet'}: {missing}"


def _proves(result: Result, test: SequentialTest, channels: Sequence[ChannelFinding]) -> str:
    """What a reader may rely on. Both errors of the test are its promise for all channels together."""
    if result is Result.PASS:
        bounds = ", ".join(dict.fromkeys(format_duration(channel.within) for channel in channels))
        return (
            f"at least {_percent(test.proves)} are delivered whole within {bounds} on each channel, "
            f"at {_percent(1 - test.beta)} confidence"
        )
    if result is Result.FAIL:
        failed = (c.result is Result.FAIL for c in channels)
        names = ", ".join(compress(names_of(channels), failed))
        return f"more than {_percent(test.acceptable)} are bad on {names}, at {_percent(1 - test.alpha)} confidence"
    return "nothing, neither for the target nor against it"


def _leaves_open(result: Result, test: SequentialTest) -> str:
    """What it does not prove."""
    if result is Result.PASS:
        more = next((p.name for p in PROFILES.values() if p.test(1).proves > test.proves), "")
        better = f"whether {_percent(PROFILES[more].test(1).proves)} are (--profile {more}), and " if more else ""
        return f"{better}what happens at other times and under other load"
    if result is Result.FAIL:
        return "how many exactly are bad; the other channels, where they are not decided"
    return "everything: do not release on it, and do not ask again until it is green"


def _percent(share: float) -> str:
    return f"{round(100 * share, 6):g} %"
