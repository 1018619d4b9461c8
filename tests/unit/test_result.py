"""The result values, their JSON and schema, the summary, and the rule of any."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.interval import Interval
from prober.model import ChannelKind, Outcome, PublicationKind, PublishResult, Timeliness, VoidReason, Waypoint
from prober.report.nagios import nagios_exit_code, nagios_line
from prober.report.result import (
    AnswerResult,
    DeliveryResult,
    ProbeResult,
    Result,
    TargetName,
    VerdictResult,
    exit_code,
    json_text,
    judge_run,
    result_schema,
    run_result,
    summarise,
    to_json,
)

AT = 1_795_428_000.25
TARGET = TargetName("staging", sandbox=False)
ACCEPTED = AnswerResult(PublishResult.ACCEPTED, 201)


def delivery(
    timeliness: Timeliness | None,
    outcome: Outcome | None,
    channel: str = "slack",
    latency: Interval | None = None,
    reason: str = "",
) -> DeliveryResult:
    return DeliveryResult(
        channel=channel,
        channel_kind=ChannelKind.SLACK,
        within=30.0,
        give_up=120.0,
        timeliness=None if timeliness is None else VerdictResult(timeliness, reason, AT + 1),
        outcome=None if outcome is None else VerdictResult(outcome, reason, AT + 2),
        latency=latency,
    )


def arrived(upper: float, channel: str = "slack", width: float = 0.0) -> DeliveryResult:
    return delivery(Timeliness.ON_TIME, Outcome.DELIVERED, channel, Interval(upper - width, upper, "push"))


def lost(channel: str = "slack") -> DeliveryResult:
    return delivery(Timeliness.OVERDUE, Outcome.LOST, channel)


def probe(
    *deliveries: DeliveryResult, answer: AnswerResult | None = ACCEPTED, scenario: str = "alert-latency"
) -> ProbeResult:
    return ProbeResult(scenario, "k3f7q2", AT, PublicationKind.ALERT, AT, AT + 0.01, answer, "ab" * 16, deliveries)


def failed(result: PublishResult, status: int | None = None, title: str = "") -> AnswerResult:
    return AnswerResult(result, status, title)


TEXTS = st.text(max_size=30)
VERDICT_REASONS = st.sampled_from(["", "not visible at the deadline", *VoidReason])
LATENCIES = st.tuples(st.floats(-5, 200), st.floats(0, 50)).map(lambda b: Interval(b[0], b[0] + b[1], "push+poll"))
DELIVERIES = st.builds(
    DeliveryResult,
    channel=st.sampled_from(["email", "slack", "discord"]),
    channel_kind=st.sampled_from(ChannelKind),
    within=st.just(30.0),
    give_up=st.just(120.0),
    timeliness=st.none() | st.builds(VerdictResult, st.sampled_from(Timeliness), VERDICT_REASONS, st.just(AT)),
    outcome=st.none() | st.builds(VerdictResult, st.sampled_from(Outcome), VERDICT_REASONS, st.just(AT)),
    latency=st.none() | LATENCIES,
    copies=st.integers(0, 3),
    waypoints=st.lists(st.builds(Waypoint, TEXTS, st.just(AT), TEXTS, st.just(1.0)), max_size=2).map(tuple),
    checks=st.lists(TEXTS, max_size=2).map(tuple),
)
ANSWERS = st.builds(
    AnswerResult, st.sampled_from(PublishResult), st.none() | st.integers(100, 599), TEXTS, TEXTS, TEXTS
)
PROBES = st.builds(
    ProbeResult,
    scenario=st.sampled_from(["alert-latency", "newsletter-delivery"]),
    probe=st.just("k3f7q2"),
    slot=st.none() | st.just(AT),
    kind=st.sampled_from(PublicationKind),
    requested_at=st.none() | st.just(AT),
    answered_at=st.none() | st.just(AT),
    answer=st.none() | ANSWERS,
    trace_id=st.just("ab" * 16),
    deliveries=st.lists(DELIVERIES, max_size=4).map(tuple),
)


def objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from objects(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from objects(inner)


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    for part in objects(schema):
        if part.get("type") == "object":
            part["additionalProperties"] = False
    return schema


VALIDATOR = jsonschema.Draft202012Validator(result_schema())
CLOSED = jsonschema.Draft202012Validator(closed(result_schema()))


@settings(deadline=None, max_examples=50)
@given(st.lists(PROBES, max_size=4))
def test_every_result_fits_the_schema(probes: list[ProbeResult]) -> None:
    """Whatever is on record, the JSON is valid JSON, fits the published schema and survives a round trip."""
    text = json_text(to_json(run_result(TARGET, probes)))
    assert text.isascii()
    VALIDATOR.validate(json.loads(text))


def test_the_schema_is_a_schema() -> None:
    """The schema itself is valid for draft 2020-12."""
    jsonschema.Draft202012Validator.check_schema(result_schema())


@settings(deadline=None, max_examples=50)
@given(PROBES)
def test_no_field_is_printed_that_the_schema_does_not_name(one: ProbeResult) -> None:
    """Every field of the JSON stands in the schema, so that none is added unseen."""
    CLOSED.validate(to_json(run_result(TARGET, [one])))


@pytest.mark.parametrize(
    "spoil",
    [
        {"version": 2},
        {"result": "ok"},
        {"summary": None},
        {"target": {"name": "x"}},
    ],
)
def test_the_schema_refuses_what_is_wrong(spoil: dict[str, Any]) -> None:
    """A result with a wrong or missing field does not validate."""
    good = to_json(run_result(TARGET, [probe(arrived(0.2))]))
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({**good, **spoil})


def test_instants_are_rfc3339_and_an_open_question_is_null() -> None:
    """Instants are written in UTC with microseconds, and an open question is null."""
    one = to_json(run_result(TARGET, [probe(delivery(Timeliness.OVERDUE, None))]))["probes"][0]
    assert one["requested_at"] == "2026-11-23T10:00:00.250000Z"
    assert one["deliveries"][0]["timeliness"]["settled_at"] == "2026-11-23T10:00:01.250000Z"
    assert one["deliveries"][0]["outcome"] is None
    assert one["deliveries"][0]["latency"] is None


def test_a_lost_delivery_never_leaves_the_quantiles() -> None:
    """With 1 of 10 lost the median stands, and p95 and max are null and named as undelivered."""
    probes = [probe(arrived(float(n), width=0.5)) for n in range(1, 10)] + [probe(lost())]
    row = to_json(run_result(TARGET, probes))["summary"][0]
    assert (row["latency_p50"], row["latency_p50_lower"]) == (5.0, 4.5)
    assert row["latency_p95"] is None
    assert row["latency_max"] is None
    assert row["undelivered"] == ["latency_p95", "latency_max", "latency_p95_lower", "latency_max_lower"]
    assert row["uncertainty_max"] == 0.5
    assert (row["by_outcome"]["lost"], row["by_outcome"]["delivered"], row["by_outcome"]["damaged"]) == (1, 9, 0)
    assert (row["by_timeliness"]["on_time"], row["by_timeliness"]["overdue"], row["open"]) == (9, 1, 0)


def test_an_overdue_delivery_counts_as_undelivered_while_it_is_open() -> None:
    """What is overdue and not here yet is not left out of the quantiles: an outage must not look fast."""
    row = summarise([probe(arrived(1.0)), probe(delivery(Timeliness.OVERDUE, None))])[0]
    assert (row.latency_p50, row.latency_max, row.open) == (1.0, math.inf, 1)


@pytest.mark.parametrize(
    "silent",
    [
        delivery(None, None),
        delivery(Timeliness.MOOT, Outcome.REFUSED),
        delivery(Timeliness.MOOT, Outcome.UNANSWERED),
        delivery(Timeliness.VOID, Outcome.VOID),
        delivery(Timeliness.MOOT, Outcome.WITHHELD),
    ],
)
def test_what_says_nothing_about_latency_has_no_quantile(silent: DeliveryResult) -> None:
    """A delivery that never was under way has no latency, and its quantiles are not called undelivered."""
    row = summarise([probe(silent)])[0]
    assert (row.latency_p50, row.latency_max, row.uncertainty_max, row.undelivered) == (None, None, None, ())
    assert summarise([probe(silent), probe(arrived(2.0))])[0].latency_max == 2.0


def test_a_summary_has_a_row_per_scenario_and_channel() -> None:
    """Rows come in order of first appearance and every verdict is counted from 0."""
    rows = summarise(
        [
            probe(arrived(1.0, "email"), arrived(1.0, "slack")),
            probe(arrived(1.0, "email"), scenario="newsletter-delivery"),
            probe(lost("email")),
        ]
    )
    assert [(row.scenario, row.channel, row.expected) for row in rows] == [
        ("alert-latency", "email", 2),
        ("alert-latency", "slack", 1),
        ("newsletter-delivery", "email", 1),
    ]
    assert all(set(row.by_outcome) == set(Outcome) and set(row.by_timeliness) == set(Timeliness) for row in rows)


BAD = {"overdue", "early", "lost", "damaged", "misplaced", "unwanted", "refused", "unanswered"}
BAD_ANSWERS = {PublishResult.REFUSED, PublishResult.ERROR, PublishResult.TIMEOUT, PublishResult.UNREACHABLE}


def reference(probes: list[ProbeResult]) -> Result:
    """The rule of any, word for word."""
    answers = {p.answer.result for p in probes if p.answer}
    verdicts = {
        None if v is None else v.verdict.value for p in probes for d in p.deliveries for v in (d.timeliness, d.outcome)
    }
    if not probes:
        return Result.VOID
    if verdicts & BAD or answers & BAD_ANSWERS:
        return Result.FAIL
    if "void" in verdicts or PublishResult.OWN_FAULT in answers:
        return Result.VOID
    unanswered = any(
        not p.deliveries and (p.answer is None or p.answer.result is PublishResult.INTERRUPTED) for p in probes
    )
    if verdicts & {"ambiguous", None} or unanswered:
        return Result.INCONCLUSIVE
    return Result.PASS


@settings(deadline=None, max_examples=50)
@given(st.lists(PROBES, max_size=4))
def test_the_result_follows_the_rule_of_any(probes: list[ProbeResult]) -> None:
    """Any bad verdict fails, else any void is void, else anything undecided is inconclusive, else it is a pass."""
    result, reason = judge_run(probes)
    assert result is reference(probes)
    assert reason
    assert reason.isprintable()


@pytest.mark.parametrize(
    ("probes", "expected"),
    [
        ([probe(arrived(1, "email"), arrived(1, "slack"))], (Result.PASS, "2 of 2 deliveries on time")),
        (
            [probe(arrived(1, "email"), lost("slack"), arrived(1, "discord"))],
            (Result.FAIL, "1 of 3 deliveries lost: slack"),
        ),
        (
            [probe(lost("slack")), probe(lost("slack"), delivery(Timeliness.OVERDUE, Outcome.DELIVERED, "email"))],
            (Result.FAIL, "2 of 3 deliveries lost: slack (2); 1 overdue: email"),
        ),
        (
            [
                probe(
                    delivery(Timeliness.MOOT, Outcome.REFUSED, "slack"),
                    answer=failed(PublishResult.REFUSED, 422, "Unknown\nchannel"),
                )
            ],
            (Result.FAIL, "publication refused (422 Unknown channel); 1 of 1 deliveries refused: slack"),
        ),
        (
            [probe(arrived(1), answer=failed(PublishResult.ERROR, 503, "Service Unavailable")), probe(arrived(1))],
            (Result.FAIL, "1 of 2 publications failed (503 Service Unavailable)"),
        ),
        (
            [probe(arrived(1, "email"), delivery(Timeliness.VOID, Outcome.VOID, "slack", reason="blind"))],
            (Result.VOID, "1 of 2 deliveries void (blind): slack"),
        ),
        (
            [probe(delivery(Timeliness.AMBIGUOUS, Outcome.DELIVERED, "slack"), delivery(None, None, "email"))],
            (Result.INCONCLUSIVE, "1 of 2 deliveries ambiguous: slack; 1 open: email"),
        ),
        (
            [probe(arrived(1), arrived(1, "email"), delivery(Timeliness.MOOT, Outcome.WITHHELD, "discord"))],
            (Result.PASS, "2 of 3 deliveries on time; 1 withheld"),
        ),
        (
            [probe(arrived(1, "email")), probe(lost("email"), scenario="newsletter-delivery")],
            (Result.FAIL, "1 of 2 deliveries lost: newsletter-delivery email"),
        ),
        ([probe(answer=None)], (Result.INCONCLUSIVE, "publication not answered yet")),
        ([], (Result.VOID, "nothing was probed")),
    ],
)
def test_the_reason_counts_and_names(probes: list[ProbeResult], expected: tuple[Result, str]) -> None:
    """The reason is one sentence with the counts and the channels that made the result."""
    assert judge_run(probes) == expected


def test_a_reason_stays_short() -> None:
    """However many channels are bad, the reason names a few and counts the rest."""
    reason = judge_run([probe(*(lost(f"channel-{n}") for n in range(40)))])[1]
    assert reason.endswith(" and 34 more")


def test_exit_codes_are_the_published_ones() -> None:
    """Exit codes: pass 0, fail 1, inconclusive 3, void 4; for Nagios pass 0, fail 2, everything else 3."""
    assert {result.value: exit_code(result) for result in Result} == {
        "pass": 0,
        "fail": 1,
        "inconclusive": 3,
        "void": 4,
    }
    assert {result.value: nagios_exit_code(result) for result in Result} == {
        "pass": 0,
        "fail": 2,
        "inconclusive": 3,
        "void": 3,
    }


def test_nagios_gets_one_line_with_performance_data() -> None:
    """The line names state, scenario and reason, and gives each channel's greatest latency with its thresholds."""
    line = nagios_line(run_result(TARGET, [probe(arrived(0.05, "email"), lost("slack"))]))
    assert line == (
        "PROBER CRITICAL - alert-latency: 1 of 2 deliveries lost: slack"
        " | email_latency=0.050s;30;120;0 slack_latency=U;30;120;0"
    )
    assert nagios_line(run_result(TARGET, [])) == "PROBER UNKNOWN - staging: void: nothing was probed"


@settings(deadline=None, max_examples=50)
@given(TEXTS.map(lambda text: text + "|a\n'b'=1\x1b[31m"))
def test_nothing_from_a_server_breaks_the_nagios_line(title: str) -> None:
    """A bar, a line break or a control sequence in the target's answer adds no performance data and no line."""
    refused = probe(
        delivery(Timeliness.MOOT, Outcome.REFUSED, "slack"), answer=failed(PublishResult.REFUSED, 422, title)
    )
    line = nagios_line(run_result(TARGET, [refused]))
    text, data = line.split("|")
    assert line.isprintable()
    assert text.startswith("PROBER CRITICAL - ")
    assert data == " slack_latency=U;30;120;0"
