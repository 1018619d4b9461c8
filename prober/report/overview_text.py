"""An overview for a terminal: tables, and plots made of characters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from prober.durations import format_duration
from prober.report.figures import band_text, budget_text, burn_text, minute_text, percent, span_text
from prober.report.lines import Line, Span, Tone, fold, pad, printable, table
from prober.report.overview import Lane, Moment, ObjectiveReport, Overview
from prober.report.provider_share import share_sentence
from prober.report.quantities import seconds_text
from prober.report.ruling import result_of
from prober.report.summary_table import summary_lines
from prober.report.text import RESULT_TONES
from prober.report.values import ProbeResult, Result, instant_to_json

_BARS = "▁▂▃▄▅▆▇█"


def render_overview(overview: Overview, width: int) -> list[Line]:
    """The whole report; an empty window is said in one sentence."""
    lines = [*_head(overview, width)]
    if not overview.lanes:
        return lines
    parts = (
        summary_lines(overview.summary, width),
        _shares(overview),
        _courses(overview, width),
        _objectives(overview, width),
        _stages(overview),
        _providers(overview, width),
        _worst(overview.worst, width),
    )
    for part in parts:
        if part:
            lines += [(), *part]
    return lines


def _head(overview: Overview, width: int) -> Iterator[Line]:
    window = overview.window
    chosen = [name for name in (window.scenario, window.channel, window.location) if name]
    span = f"{minute_text(window.since)} to {minute_text(window.until)} UTC ({span_text(window.until - window.since)})"
    yield (Span("Report  ", Tone.STRONG), Span("  ".join([span, *map(printable, chosen)])))
    if not overview.lanes:
        yield (Span("No delivery was planned in this window.", Tone.FAINT),)
        return
    word = overview.result.value.upper()
    first, *rest = fold(overview.reason, max(width - len(word) - 2, 20))
    yield (Span(word, RESULT_TONES[overview.result]), Span(f"  {first}"))
    yield from ((Span(" " * (len(word) + 2) + text),) for text in rest)


def _shares(overview: Overview) -> list[Line]:
    header = ["scenario", "channel", "on time", "of", "share", "95 % between", "p95"]
    body = [
        [
            Span(lane.scenario),
            Span(lane.channel),
            Span(str(lane.share.good)),
            Span(str(lane.share.of)),
            Span(percent(lane.share.ratio), Tone.STRONG),
            Span(f"{percent(lane.share.wilson[0])} and {percent(lane.share.wilson[1])}"),
            Span(band_text(lane, "p95") + (" (estimated)" if lane.live else "")),
        ]
        for lane in overview.lanes
    ]
    return [(Span("Within the deadline", Tone.STRONG),), *table(header, body, left=2, indent=2)]


def _courses(overview: Overview, width: int) -> list[Line]:
    names = [f"{lane.scenario} {lane.channel}" for lane in overview.lanes]
    label = max(map(len, names))
    room = max(min(width - label - 6, 96), 12)
    lines: list[Line] = [(Span("Latency over time", Tone.STRONG), Span("  p95; ✗ lost, ░ not seen", Tone.FAINT))]
    for name, lane in zip(names, overview.lanes, strict=True):
        tops = [m.p95 for m in lane.moments if m.p95 is not None and math.isfinite(m.p95) and m.p95 > 0]
        scale = f"{seconds_text(min(tops))} to {seconds_text(max(tops))} s" if tops else "nothing arrived"
        lines.append((Span(f"  {pad(name, label)}  "), *_spark(lane, room)))
        lines.append((Span(f"  {pad('', label)}  {scale}, deadline {format_duration(lane.within)}", Tone.FAINT),))
    return lines


def _spark(lane: Lane, room: int) -> list[Span]:
    groups = _regroup(lane.moments, room)
    values = [max((m.p95 or 0.0 for m in group if m.p95 and math.isfinite(m.p95)), default=0.0) for group in groups]
    logs = [math.log10(value) for value in values if value > 0]
    low, high = (min(logs), max(logs)) if logs else (0.0, 0.0)
    spans = []
    for group, value in zip(groups, values, strict=True):
        count, lost, void = (sum(getattr(m, field) for m in group) for field in ("count", "lost", "void"))
        if lost * 10 >= count > 0:
            spans.append(Span("✗", Tone.BAD))
        elif value > 0:
            step = (math.log10(value) - low) / (high - low) if high > low else 0.0
            tone = Tone.UNSURE if value > lane.within else Tone.GOOD
            spans.append(Span(_BARS[min(int(step * len(_BARS)), len(_BARS) - 1)], tone))
        else:
            spans.append(Span("░" if void else " ", Tone.VOID))
    return spans


def _regroup(moments: Sequence[Moment], room: int) -> list[Sequence[Moment]]:
    size = math.ceil(len(moments) / room)
    return [moments[at : at + size] for at in range(0, len(moments), size)]


def _objectives(overview: Overview, width: int) -> list[Line]:
    if not overview.objectives:
        return []
    header = ["objective", "goal", "is", "judged", "budget left", *(_windows(overview.objectives[0]))]
    body = [
        [
            Span(report.objective.name),
            Span(percent(report.objective.goal)),
            _ratio(report),
            Span(percent(report.counts.coverage)),
            Span(budget_text(report.budget), _tone(report)),
            *(Span(burn_text(burn.long), Tone.BAD if burn.burning else Tone.PLAIN) for burn in report.burns),
        ]
        for report in overview.objectives
    ]
    lines: list[Line] = [(Span("Objectives", Tone.STRONG), Span("  and how fast their budgets burn", Tone.FAINT))]
    lines += table(header, body, left=1, indent=2)
    label = max(len(report.objective.name) for report in overview.objectives)
    for report in overview.objectives:
        if report.burn_down:
            bars = _burn_down(report, max(min(width - label - 6, 60), 12))
            lines.append((Span(f"  {pad(report.objective.name, label)}  "), Span(bars, _tone(report))))
    return lines


def _windows(report: ObjectiveReport) -> list[str]:
    return [span_text(burn.window.long).replace(" ", "") for burn in report.burns]


def _ratio(report: ObjectiveReport) -> Span:
    ratio = report.counts.ratio
    if ratio is None:
        return Span("-", Tone.FAINT)
    return Span(percent(ratio), Tone.GOOD if ratio >= report.objective.goal else Tone.BAD)


def _tone(report: ObjectiveReport) -> Tone:
    if report.budget is None:
        return Tone.FAINT
    left = report.budget.remaining
    return Tone.BAD if left <= 0 else Tone.UNSURE if left < 0.25 else Tone.GOOD


def _burn_down(report: ObjectiveReport, room: int) -> str:
    """What was left of the budget, from the window's start to its end."""
    course, bars = report.burn_down, ""
    start, end = course[0][0], course[-1][0]
    for n in range(room):
        at = start + (end - start) * (n + 1) / room
        left = [rest for time, rest in course if time <= at][-1]
        bars += _BARS[max(0, min(int(left * len(_BARS)), len(_BARS) - 1))] if left > 0 else "✗"
    return bars


def _stages(overview: Overview) -> list[Line]:
    lanes = [lane for lane in overview.lanes if lane.stages]
    if not lanes:
        return []
    names = list(dict.fromkeys(stage.name for lane in lanes for stage in lane.stages if stage.name != "visible"))
    order = {name: min(s.p50 for lane in lanes for s in lane.stages if s.name == name) for name in names}
    names = [*sorted(names, key=lambda name: order[name]), "visible"]
    body = []
    for lane in lanes:
        medians = {stage.name: stage.p50 for stage in lane.stages}
        cells = [Span(f"{seconds_text(medians[name])} s" if name in medians else "-") for name in names]
        body.append([Span(lane.scenario), Span(lane.channel), *cells])
    title: Line = (Span("Where the time went", Tone.STRONG), Span("  median from the request", Tone.FAINT))
    return [title, *table(["scenario", "channel", *names], body, left=2, indent=2)]


def _providers(overview: Overview, width: int) -> list[Line]:
    if not overview.providers:
        return []
    lines: list[Line] = [(Span("The providers themselves", Tone.STRONG), Span("  control messages", Tone.FAINT))]
    label = max(len(share.channel) for share in overview.providers)
    for share in overview.providers:
        first, *rest = fold(share_sentence(share), max(width - label - 4, 20))
        tone = Tone.UNSURE if share.slow else Tone.PLAIN
        lines.append((Span(f"  {pad(share.channel, label)}  "), Span(first, tone)))
        lines += [(Span(f"  {pad('', label)}  "), Span(text, tone)) for text in rest]
    return lines


def _worst(probes: Sequence[ProbeResult], width: int) -> list[Line]:
    if not probes:
        return []
    lines: list[Line] = [(Span("Worst probes", Tone.STRONG), Span("  prober show PROBE has the evidence", Tone.FAINT))]
    for probe in probes:
        bad = [
            f"{d.channel} {word}" for d in probe.deliveries for found, word in [result_of(d)] if found != Result.PASS
        ]
        when = (instant_to_json(probe.requested_at or probe.slot) or "never requested")[:19]
        text = ", ".join(bad)
        lines.append((Span(f"  {probe.probe}", Tone.STRONG), Span(f"  {when}  {printable(probe.scenario)}  "),
                      Span(text.replace("_", " "), Tone.BAD)))  # fmt: skip
    return lines
