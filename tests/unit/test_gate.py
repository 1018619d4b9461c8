"""The gate's decision: its numbers, the order in which probes count, and what it says."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import pytest

from prober.gate import PROFILES, Asked, Event, Said, judge_channel, judge_gate, said_by
from prober.interval import Interval
from prober.model import ChannelKind, Outcome, PublicationKind, PublishResult, Timeliness
from prober.report.gate_forms import annotation_lines, junit_text, markdown_text
from prober.report.gate_text import gate_lines
from prober.report.gate_values import ChannelFinding, GateFinding, GateResult, Limit, gate_to_json
from prober.report.lines import plain
from prober.report.result import result_schema
from prober.report.values import (
    AnswerResult,
    DeliveryResult,
    ProbeResult,
    Result,
    RunResult,
    TargetName,
    VerdictResult,
)
from tests.bench.gate import SHARES, Order, first_decision, gate_theory, pass_chance, simulate

CHANNELS = ("email", "slack", "discord")
ASKED = [Asked("alert-latency", channel, 30.0) for channel in CHANNELS]
QUICK, STRICT = PROFILES["quick"], PROFILES["strict"]
GOOD, BAD, VOID = (Said(event, event.value, "a") for event in Event)
BLIND = Said(Event.VOID, "blind", "a")


def delivery(timeliness: Timeliness | None, outcome: Outcome | None, channel: str = "slack") -> DeliveryResult:
    """One delivery with these verdicts."""
    return DeliveryResult(
        channel,
        ChannelKind.SLACK,
        30.0,
        120.0,
        None if timeliness is None else VerdictResult(timeliness, "blind" if timeliness == "void" else "", 0.0),
        None if outcome is None else VerdictResult(outcome, "own_fault" if outcome == "void" else "", 0.0),
        Interval(0.1, 0.2, "push") if outcome is Outcome.DELIVERED else None,
    )


def probe(
    *deliveries: DeliveryResult, result: PublishResult | None = PublishResult.ACCEPTED, name: str = "a", title: str = ""
) -> ProbeResult:
    """One probe whose publication was answered so."""
    answer = None if result is None else AnswerResult(result, 422 if title else None, title)
    return ProbeResult("alert-latency", name, None, PublicationKind.ALERT, answer=answer, deliveries=deliveries)


def channel(said: Sequence[Said | None], profile: str = "quick", channels: int = 3) -> ChannelFinding:
    """What these events say on one of so many channels."""
    return judge_channel(PROFILES[profile].test(channels), ASKED[1], said)


@pytest.mark.parametrize(
    ("profile", "bad", "total"),
    [("quick", 0, 32), ("quick", 1, 57), ("quick", 2, 82), ("strict", 0, 73), ("strict", 1, 113), ("strict", 2, 153)],
)
def test_three_channels_pass_at_the_numbers_that_were_promised(profile: str, bad: int, total: int) -> None:
    """With so many bad ones among them, a channel of three passes at exactly so many probes, and not one earlier."""
    # The bad ones come late enough not to fail it, early enough not to have passed.
    spots = {("quick", 1): [10], ("quick", 2): [10, 40], ("strict", 1): [30], ("strict", 2): [30, 80]}
    events = [BAD if n in spots.get((profile, bad), []) else GOOD for n in range(total)]
    assert channel(events[:-1], profile).result is Result.INCONCLUSIVE
    assert channel(events[:-1], profile).needed == 1
    assert channel(events, profile).result is Result.PASS


@pytest.mark.parametrize(
    ("profile", "bad", "by"),
    [("quick", 2, 7), ("quick", 3, 33), ("quick", 4, 58), ("strict", 3, 22), ("strict", 4, 62)],
)
def test_three_channels_fail_at_the_numbers_that_were_promised(profile: str, bad: int, by: int) -> None:
    """The so many-th bad one fails a channel of three if it is at most the so many-th probe, and one later does not."""
    test = PROFILES[profile].test(3)
    assert test.fail_by(bad) == by
    earlier = {2: [0], 3: [0, 20], 4: [0, 20, 40]}[bad]
    for last, result in ((by - 1, Result.FAIL), (by, Result.INCONCLUSIVE)):
        events = [BAD if n in {*earlier, last} else GOOD for n in range(last + 1)]
        assert channel(events, profile).result is result


def test_two_bad_are_not_enough_for_strict_at_the_start() -> None:
    """Strict on three channels never fails by two bad ones alone."""
    assert STRICT.test(3).fail_by(2) is None
    assert channel([BAD, BAD], "strict").result is Result.INCONCLUSIVE


@pytest.mark.parametrize("tests", [1, 3, 6])
def test_launches_are_spread(tests: int) -> None:
    """The earliest pass comes when the promised time has passed: 90 s quick, 3 min strict."""
    for each in (QUICK, STRICT):
        earliest = each.every(tests) * (each.test(tests).pass_at(0) - 1)
        assert earliest == pytest.approx({"quick": 90.0, "strict": 180.0}[each.name])
        assert each.every(tests) >= 1.0
        assert each.max_probes >= each.test(tests).pass_at(2)
        assert each.max_time > each.every(tests) * each.max_probes


@pytest.mark.parametrize(
    ("timeliness", "outcome", "event"),
    [
        (Timeliness.ON_TIME, Outcome.DELIVERED, Event.GOOD),
        (Timeliness.MOOT, Outcome.WITHHELD, Event.GOOD),
        (Timeliness.ON_TIME, Outcome.DAMAGED, Event.BAD),
        (Timeliness.ON_TIME, Outcome.MISPLACED, Event.BAD),
        (Timeliness.MOOT, Outcome.UNWANTED, Event.BAD),
        (Timeliness.MOOT, Outcome.REFUSED, Event.BAD),
        (Timeliness.MOOT, Outcome.UNANSWERED, Event.BAD),
        (Timeliness.OVERDUE, None, Event.BAD),
        (Timeliness.OVERDUE, Outcome.VOID, Event.BAD),
        (Timeliness.EARLY, Outcome.DELIVERED, Event.BAD),
        (Timeliness.AMBIGUOUS, Outcome.DELIVERED, Event.BAD),
        (Timeliness.VOID, None, Event.VOID),
        (Timeliness.VOID, Outcome.VOID, Event.VOID),
        (Timeliness.MOOT, Outcome.VOID, Event.VOID),
        (Timeliness.ON_TIME, None, None),
        (Timeliness.MOOT, None, None),
        (None, None, None),
    ],
)
def test_what_a_delivery_says(timeliness: Timeliness | None, outcome: Outcome | None, event: Event | None) -> None:
    """Bad is what is not proven in time and whole; void says nothing; what is open waits."""
    one = delivery(timeliness, outcome)
    said = said_by(probe(one), one)
    assert (said.event if said else None) is event


@pytest.mark.parametrize("result", PublishResult)
def test_a_publication_that_was_not_accepted_is_bad_at_once(result: PublishResult) -> None:
    """Refused, failed, timed out, unreachable: bad on each channel before anything is seen; our own fault is not."""
    one = delivery(None, None)
    said = said_by(probe(one, result=result), one)
    ours = {PublishResult.ACCEPTED, PublishResult.INTERRUPTED, PublishResult.OWN_FAULT}
    assert (said.event if said else None) is (None if result in ours else Event.BAD)


def test_a_later_probe_waits_for_the_earlier_ones() -> None:
    """32 good ones behind one that is still open say nothing yet; once that is good too, all count."""
    assert channel([None, *[GOOD] * 40]).result is Result.INCONCLUSIVE
    assert channel([None, *[GOOD] * 40]).pending == 41
    assert channel([GOOD] * 41).result is Result.PASS
    late = channel([BAD, *[GOOD] * 40])
    assert (late.result, late.needed) == (Result.INCONCLUSIVE, 57 - 41)


def test_the_order_of_settlement_would_pass_too_much() -> None:
    """With 10 % bad, a test in the order of settlement passes far more than the promised 5 %; ours keeps it.

    A good one settles 0.1 s, a bad one 30 s after its launch, one launch every 2.9 s, as in reality.
    """
    source, runs = random.Random(5), 1000
    passes = dict.fromkeys(Order, 0)
    for _ in range(runs):
        good = [source.random() >= 0.10 for _ in range(QUICK.max_probes)]
        for order in Order:
            passes[order] += first_decision(QUICK, 1, good, order)[0] is Result.PASS
    promised = pass_chance(QUICK.test(1), 0.10, QUICK.max_probes)
    assert promised <= 0.05
    assert passes[Order.LAUNCH] / runs == pytest.approx(promised, abs=0.026)  # 4 standard errors
    assert passes[Order.SETTLEMENT] / runs > 2 * promised


def test_a_decision_stands() -> None:
    """What comes after a channel's decision changes nothing, and is told."""
    found = channel([*[GOOD] * 32, BAD, BAD, BAD])
    assert (found.result, found.good, found.bad, found.later_bad) == (Result.PASS, 32, 0, 3)
    assert channel([BAD, BAD, *[GOOD] * 200]).result is Result.FAIL


def test_void_is_no_event_up_to_a_tenth() -> None:
    """Three void probes cost three more; with the fourth, more than a tenth of the earliest pass, nothing is said."""
    assert channel([VOID, VOID, VOID, *[GOOD] * 31]).needed == 1
    assert channel([VOID, VOID, VOID, *[GOOD] * 32]).result is Result.PASS
    assert channel([VOID, VOID, VOID, VOID, *[GOOD] * 32]).result is Result.VOID
    assert channel([GOOD, BLIND]).result is Result.VOID


def gate(*probes: ProbeResult, limit: Limit | None = None, profile: str = "quick") -> GateFinding:
    """The gate's finding on these probes."""
    return judge_gate(PROFILES[profile], ASKED, probes, limit)


def all_good(*, slack: DeliveryResult | None = None, name: str = "a") -> ProbeResult:
    """A probe that is good on every channel, but perhaps on Slack."""
    good = {each: delivery(Timeliness.ON_TIME, Outcome.DELIVERED, each) for each in CHANNELS}
    return probe(*{**good, "slack": slack or good["slack"]}.values(), name=name)


OVERDUE = delivery(Timeliness.OVERDUE, Outcome.LOST)
VOIDED = delivery(Timeliness.VOID, Outcome.VOID)


def test_all_must_pass_and_one_fails_all() -> None:
    """PASS only when each channel passes; one that fails, or that cannot be judged, decides."""
    assert gate(*[all_good()] * 32).result is Result.PASS
    assert gate(*[all_good()] * 31).result is Result.INCONCLUSIVE
    failed = gate(*[all_good(slack=OVERDUE)] * 2)
    assert failed.result is Result.FAIL
    assert failed.reason.startswith("slack: 2 of 2 probes bad (2 overdue)")
    assert "email" not in failed.reason
    blind = gate(all_good(slack=VOIDED))
    assert blind.result is Result.VOID
    assert "slack: 1 of 1 void (1 blind)" in blind.reason


def test_channels_are_never_pooled() -> None:
    """Slack fails though the other channels make the bad ones a small share of all."""
    probes = [*[all_good()] * 4, *[all_good(slack=OVERDUE)] * 3]
    assert gate(*probes).result is Result.FAIL


def test_a_limit_is_inconclusive_and_says_what_is_missing() -> None:
    """An undecided gate is never a pass: it says the limit, and how many good ones each channel still needs."""
    for limit, words in ((Limit.PROBES, "limit of probes"), (Limit.TIME, "limit of time"),
                         (Limit.INTERRUPTED, "interrupted")):  # fmt: skip
        found = gate(*[all_good()] * 20, limit=limit)
        assert (found.result, found.limit) == (Result.INCONCLUSIVE, limit)
        assert words in found.reason
        assert "slack needs 12 more good of 20 counted" in found.reason
        assert found.proves == "nothing, neither for the target nor against it"
    assert gate(*[all_good()] * 32, limit=Limit.PROBES).limit is None


def test_what_it_proves_and_what_not() -> None:
    """A quick pass says 90 %, a strict one 95 %, both at 95 % confidence; quick names the strict one."""
    passed = gate(*[all_good()] * 32)
    assert passed.proves == "at least 90 % are delivered whole within 30s on each channel, at 95 % confidence"
    assert passed.leaves_open.startswith("whether 95 % are (--profile strict)")
    strict = gate(*[all_good()] * 73, profile="strict")
    assert strict.proves.startswith("at least 95 % are")
    failed = gate(*[all_good(slack=OVERDUE)] * 2)
    assert failed.proves == "more than 1 % are bad on slack, at 95 % confidence"


def whole(finding: GateFinding) -> GateResult:
    """The finding as a whole result."""
    return GateResult(RunResult(TargetName("sandbox", True), finding.result, finding.reason), finding, 2, 5.0)


HOSTILE = "</failure>]]>\n::error::x|`<img src=x onerror=y>`\x00\ufffe%0A"


def hostile() -> GateResult:
    """A gate failed by answers that want to be markup."""
    bad = probe(*(delivery(None, None, each) for each in CHANNELS), result=PublishResult.REFUSED, title=HOSTILE)
    return whole(gate(bad, bad))


def test_json_is_what_the_schema_says() -> None:
    """The JSON fits the schema, for each result."""
    for finding in (gate(), gate(*[all_good()] * 32), gate(all_good(slack=VOIDED)), gate(limit=Limit.TIME)):
        found = gate_to_json(whole(finding))
        jsonschema.validate(found, result_schema())
        assert found["gate"]["channels"][1]["channel"] == "slack"
    assert gate_to_json(hostile())["result"] == "fail"


def test_junit_is_never_green_without_a_pass() -> None:
    """A FAIL is a failure, VOID and undecided are errors; words of the target stay text."""

    def counts(finding: GateResult) -> tuple[str | None, ...]:
        suite = ET.fromstring(junit_text(finding).encode())[0]  # noqa: S314 - our own
        return tuple(suite.get(name) for name in ("tests", "failures", "errors", "skipped"))

    assert counts(whole(gate(*[all_good()] * 32))) == ("3", "0", "0", "0")
    assert counts(whole(gate(*[all_good(slack=OVERDUE)] * 2))) == ("3", "1", "0", "2")
    assert counts(whole(gate(all_good(slack=VOIDED)))) == ("3", "0", "1", "2")
    assert counts(whole(gate(limit=Limit.TIME))) == ("3", "0", "3", "0")
    assert counts(hostile()) == ("3", "3", "0", "0")


def test_markdown_and_annotations_hold_no_foreign_markup() -> None:
    """What the target wrote makes no table cell, no HTML and no workflow command of its own."""
    text = markdown_text(hostile())
    assert "<img" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 4
    assert all(line.replace("\\|", "").count("|") == 8 for line in rows)
    annotations = list(annotation_lines(hostile()))
    assert len(annotations) == 3
    assert all(line.startswith("::error title=") and "\n" not in line for line in annotations)
    assert "%250A" in annotations[0]
    (notice,) = annotation_lines(whole(gate(*[all_good()] * 32)))
    assert notice.startswith("::notice title=prober gate quick%3A PASS::at least 90 %25")
    (error,) = annotation_lines(whole(gate(limit=Limit.TIME)))
    assert error.startswith("::error title=prober gate quick%3A INCONCLUSIVE::")


def test_the_text_fits_a_terminal_and_names_the_probes() -> None:
    """At 80 columns nothing is wider, and the bad probes are named so that they can be looked up."""
    lines = [plain(line) for line in gate_lines(whole(gate(*[all_good(slack=OVERDUE, name="k3f7")] * 2)), 80)]
    assert max(map(len, lines)) <= 80
    assert any("2 overdue: probe k3f7, k3f7" in line for line in lines)
    assert any(line.startswith("FAIL  slack: 2 of 2 probes bad") for line in lines)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("share", [0.90, 0.97, 0.999])
def test_the_operating_characteristics_match_the_theory(profile: str, share: float) -> None:
    """Simulated gates pass, fail and take as many probes as the exact solution of the test says."""
    runs = 1000
    exact, found = gate_theory(PROFILES[profile], 1 - share), simulate(PROFILES[profile], 1 - share, runs)
    for chance, seen in zip(exact[:2], found[:2], strict=True):
        assert seen == pytest.approx(chance, abs=4 * (max(chance * (1 - chance), 1e-3) / runs) ** 0.5)
    assert found[2] == pytest.approx(exact[2], rel=0.08)


def test_the_users_table_is_the_exact_solution() -> None:
    """The figures in brackets of scenarios/README.md are computed anew."""
    text = (Path(__file__).parents[2] / "scenarios/README.md").read_text(encoding="utf-8")
    cell = r" [\d.]+ % \(([\d.]+)\) \|"
    found = re.findall(rf"^\| (quick|strict) \| ([\d.]+) % \|{cell}{cell}{cell} \d+ \((\d+)\) \|$", text, re.MULTILINE)
    assert [(name, share) for name, share, *_ in found] == [
        (name, f"{100 * share:g}") for name in PROFILES for share in SHARES
    ]
    for name, share, *told in found:
        passes, fails, probes = gate_theory(PROFILES[name], 1 - float(share) / 100)
        exact = [100 * passes, 100 * fails, 100 * (1 - passes - fails)]
        assert told == [*(f"{chance:.1f}" for chance in exact), f"{probes:.0f}"]
