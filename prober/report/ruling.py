"""Verdicts -> one result for the run, by the rule of any, and the sentence that says why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prober.model import Outcome, PublishResult, Timeliness
from prober.report.lines import shorten
from prober.report.overview import Lane
from prober.report.values import AnswerResult, DeliveryResult, ProbeResult, Result

BAD_OUTCOMES = {
    Outcome.LOST,
    Outcome.DAMAGED,
    Outcome.MISPLACED,
    Outcome.UNWANTED,
    Outcome.REFUSED,
    Outcome.UNANSWERED,
}
BAD_TIMELINESS = {Timeliness.OVERDUE, Timeliness.EARLY}
OPEN = "open"
"""The word for a delivery about which a question is open."""


def result_of(delivery: DeliveryResult) -> tuple[Result, str]:
    """What one delivery says about the run, and the one word for it: the worst verdict first, then the best."""
    return result_of_verdicts(
        delivery.timeliness.verdict if delivery.timeliness else None,
        delivery.outcome.verdict if delivery.outcome else None,
    )


def result_of_verdicts(timeliness: Timeliness | None, outcome: Outcome | None) -> tuple[Result, str]:
    """The same of the two verdicts; None for a question that is open."""
    if outcome in BAD_OUTCOMES:
        return Result.FAIL, str(outcome)
    if timeliness in BAD_TIMELINESS:
        return Result.FAIL, str(timeliness)
    if outcome is Outcome.VOID or timeliness is Timeliness.VOID:
        return Result.VOID, Outcome.VOID.value
    if timeliness is Timeliness.AMBIGUOUS:
        return Result.INCONCLUSIVE, timeliness.value
    if outcome is None or timeliness is None:
        return Result.INCONCLUSIVE, OPEN
    return Result.PASS, str(outcome if timeliness is Timeliness.MOOT else timeliness)


_PUBLISH_FAILURES: Mapping[PublishResult, tuple[Result, str]] = {
    PublishResult.REFUSED: (Result.FAIL, "refused"),
    PublishResult.ERROR: (Result.FAIL, "failed"),
    PublishResult.TIMEOUT: (Result.FAIL, "timed out"),
    PublishResult.UNREACHABLE: (Result.FAIL, "did not reach the target"),
    PublishResult.OWN_FAULT: (Result.VOID, "failed by a fault of our own"),
}
_ORDER = (Result.FAIL, Result.VOID, Result.INCONCLUSIVE, Result.PASS)
MAX_NAMED = 6
"""Channels that a reason names at the most."""

MAX_ANSWER = 160
"""Characters of a target's answer that a reason repeats at the most."""


def judge_run(probes: Iterable[ProbeResult]) -> tuple[Result, str]:
    """The result by the rule of any (fail, void, inconclusive, pass) and one sentence that counts and names."""
    probes = tuple(probes)
    if not probes:
        return Result.VOID, "nothing was probed"
    published = [(*_published(probe), probe) for probe in probes]
    judged = [(*result_of(delivery), probe, delivery) for probe in probes for delivery in probe.deliveries]
    found = {row[0] for row in published} | {row[0] for row in judged}
    result = next(result for result in _ORDER if result in found)
    parts = _publish_parts([(word, probe) for r, word, probe in published if r is result], len(probes))
    several = len({probe.scenario for probe in probes}) > 1
    named = [
        (word, f"{probe.scenario} {delivery.channel}" if several else delivery.channel, delivery)
        for r, word, probe, delivery in judged
        if r is result
    ]
    parts += _good_parts(named, len(judged)) if result is Result.PASS else _delivery_parts(named, len(judged))
    return result, "; ".join(parts)


def judge_counts(lanes: Iterable[Lane]) -> tuple[Result, str]:
    """The same rule of any over counts: what a report says in one word, and in one sentence."""
    lanes = tuple(lanes)
    total = sum(lane.expected for lane in lanes)
    if not total:
        return Result.VOID, "no delivery was planned in this window"
    several = len({lane.scenario for lane in lanes}) > 1
    names = {id(lane): f"{lane.scenario} {lane.channel}" if several else lane.channel for lane in lanes}
    words: dict[Result, dict[str, Counter[str]]] = {result: {} for result in _ORDER}
    for lane in lanes:
        for result, word, count in _counted(lane):
            if count:
                words[result].setdefault(word, Counter())[names[id(lane)]] += count
    result = next(result for result in _ORDER if words[result])
    parts: list[str] = []
    for word, where in sorted(words[result].items(), key=lambda item: -item[1].total()):
        head = f"{where.total():,} of {total:,} deliveries" if not parts else f"{where.total():,}"
        parts.append(f"{head} {word.replace('_', ' ')}" + ("" if result is Result.PASS else f": {_names(where, 3)}"))
    return result, "; ".join(parts)


def _counted(lane: Lane) -> Iterator[tuple[Result, str, int]]:
    """A lane's verdicts by what they say about a run; overdue ones that were lost are counted as lost alone."""
    for outcome in sorted(BAD_OUTCOMES):
        yield Result.FAIL, outcome.value, lane.by_outcome[outcome]
    for verdict in sorted(BAD_TIMELINESS):
        lost = lane.by_outcome[Outcome.LOST] if verdict is Timeliness.OVERDUE else 0
        yield Result.FAIL, verdict.value, max(0, lane.by_timeliness[verdict] - lost)
    yield Result.VOID, Outcome.VOID.value, lane.void
    yield Result.INCONCLUSIVE, Timeliness.AMBIGUOUS.value, lane.by_timeliness[Timeliness.AMBIGUOUS]
    yield Result.INCONCLUSIVE, OPEN, lane.open
    yield Result.PASS, Timeliness.ON_TIME.value, lane.by_timeliness[Timeliness.ON_TIME]
    yield Result.PASS, Outcome.WITHHELD.value, lane.by_outcome[Outcome.WITHHELD]


def _published(probe: ProbeResult) -> tuple[Result, str]:
    """What the publication itself says about the run, and a word for it where its deliveries do not say it."""
    if probe.answer is not None and probe.answer.result in _PUBLISH_FAILURES:
        return _PUBLISH_FAILURES[probe.answer.result]
    if probe.deliveries:
        return Result.PASS, ""
    if probe.answer is None:
        return Result.INCONCLUSIVE, "not answered yet"
    accepted = probe.answer.result is PublishResult.ACCEPTED
    return Result.PASS if accepted else Result.INCONCLUSIVE, probe.answer.result.value


def _publish_parts(rows: Sequence[tuple[str, ProbeResult]], total: int) -> list[str]:
    counts = Counter(word for word, _ in rows if word)
    first = dict(reversed(rows))
    parts: list[str] = []
    for word, count in counts.items():
        what = f"{count} of {total} publications" if total > 1 else "publication"
        why = answer_text(first[word].answer)
        parts.append(f"{what} {word} ({why})" if why and word != "accepted" else f"{what} {word}")
    return parts


def answer_text(answer: AnswerResult | None) -> str:
    """An answer's status, title and detail in one short line; the text is the target's own."""
    if answer is None:
        return ""
    status = "" if answer.status is None else str(answer.status)
    head = " ".join(part for part in (status, answer.title) if part)
    return shorten(": ".join(part for part in (head, answer.detail) if part), MAX_ANSWER)


def _delivery_parts(rows: Sequence[tuple[str, str, DeliveryResult]], total: int) -> list[str]:
    words: dict[str, Counter[str]] = {}
    for word, name, delivery in rows:
        words.setdefault(_with_reason(word, delivery), Counter())[name] += 1
    parts: list[str] = []
    for word, names in sorted(words.items(), key=lambda item: -item[1].total()):
        head = f"{names.total()} of {total} deliveries" if not parts else f"{names.total()}"
        parts.append(f"{head} {word}: {_names(names)}")
    return parts


def _with_reason(word: str, delivery: DeliveryResult) -> str:
    """Void says why: it is the prober's own trouble, and the reason is where to look."""
    if word != Outcome.VOID.value:
        return word.replace("_", " ")
    void = next(v for v in (delivery.outcome, delivery.timeliness) if v is not None and v.verdict.value == word)
    return f"{word} ({void.reason})" if void.reason else word


def _good_parts(rows: Sequence[tuple[str, str, DeliveryResult]], total: int) -> list[str]:
    counts = Counter(word.replace("_", " ") for word, _, _ in rows)
    return [
        f"{count} of {total} deliveries {word}" if number == 0 else f"{count} {word}"
        for number, (word, count) in enumerate(counts.most_common())
    ]


def _names(names: Counter[str], most: int = MAX_NAMED) -> str:
    shown = [name if count == 1 else f"{name} ({count:,})" for name, count in names.most_common(most)]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
