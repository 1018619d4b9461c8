"""An overview as Markdown, for comments and summaries of CI. Nothing in a name is ever interpreted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from prober.model import Outcome
from prober.report.figures import band_text, budget_text, burn_text, minute_text, percent, quantile_text, span_text
from prober.report.lines import printable
from prober.report.overview import Overview
from prober.report.provider_share import share_sentence
from prober.report.ruling import result_of
from prober.report.values import Result, instant_to_json

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~&@:-])")


def plain_markdown(text: str) -> str:
    """``text`` on one line, as text and nothing else: no markup, link, mention or HTML."""
    return _SPECIAL.sub(r"\\\1", printable(text)).replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def overview_markdown(overview: Overview) -> str:
    """The whole report."""
    window = overview.window
    span = f"{minute_text(window.since)} to {minute_text(window.until)} UTC, {span_text(window.until - window.since)}"
    chosen = "".join(f", {plain_markdown(n)}" for n in (window.scenario, window.channel, window.location) if n)
    parts = [f"## Delivery report: {overview.result.value.upper()}", f"{span}{chosen}"]
    if not overview.lanes:
        return "\n\n".join([*parts, "No delivery was planned in this window."]) + "\n"
    parts.append(plain_markdown(overview.reason))
    parts.append(_channels(overview))
    if overview.objectives:
        parts += ["### Objectives", _objectives(overview)]
    if overview.providers:
        told = [
            f"{plain_markdown(each.channel)}: {plain_markdown(share_sentence(each))}" for each in overview.providers
        ]
        parts += ["### The providers themselves", "\n".join(f"- {line}" for line in told)]
    if overview.worst:
        parts += ["### Worst probes", _worst(overview)]
    return "\n\n".join(parts) + "\n"


def _channels(overview: Overview) -> str:
    header = ["scenario", "channel", "expected", "on time", "95 % between", "p50", "p95", "lost", "void"]
    return _table(
        header,
        (
            [
                plain_markdown(lane.scenario),
                plain_markdown(lane.channel),
                str(lane.expected),
                percent(lane.share.ratio),
                f"{percent(lane.share.wilson[0])} and {percent(lane.share.wilson[1])}",
                quantile_text(lane, "p50"),
                band_text(lane, "p95") + (" (estimated)" if lane.live else ""),
                str(lane.by_outcome[Outcome.LOST]),
                str(lane.void),
            ]
            for lane in overview.lanes
        ),
        left=2,
    )


def _objectives(overview: Overview) -> str:
    spans = [span_text(burn.window.long) for burn in overview.objectives[0].burns]
    return _table(
        ["objective", "goal", "is", "judged", "budget left", *(f"burn {span}" for span in spans)],
        (
            [
                plain_markdown(report.objective.name),
                percent(report.objective.goal),
                percent(report.counts.ratio),
                percent(report.counts.coverage),
                budget_text(report.budget),
                *(f"**{burn_text(b.long)}**" if b.burning else burn_text(b.long) for b in report.burns),
            ]
            for report in overview.objectives
        ),
        left=1,
    )


def _worst(overview: Overview) -> str:
    rows = []
    for probe in overview.worst:
        judged = [(d.channel, *result_of(d)) for d in probe.deliveries]
        bad = ", ".join(f"{channel} {word}" for channel, result, word in judged if result is not Result.PASS)
        when = (instant_to_json(probe.requested_at or probe.slot) or "never requested")[:19]
        rows.append([f"`{probe.probe}`", when, plain_markdown(probe.scenario), plain_markdown(bad)])
    return _table(["probe", "requested (UTC)", "scenario", "what went wrong"], rows, left=4)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    rule = ["---" if column < left else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))
