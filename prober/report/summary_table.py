"""Summary rows -> an aligned table, the fullest form for which there is room."""

from __future__ import annotations

from collections.abc import Sequence

from prober.durations import format_duration
from prober.model import Outcome, Timeliness
from prober.report.lines import Line, Span, Tone, line_cells, printable, table
from prober.report.quantities import seconds_text
from prober.report.ruling import OPEN
from prober.report.values import SummaryRow

_COUNTED: Sequence[tuple[str, Tone]] = (
    (Timeliness.OVERDUE, Tone.BAD),
    (Timeliness.EARLY, Tone.BAD),
    (Outcome.LOST, Tone.BAD),
    (Outcome.DAMAGED, Tone.BAD),
    (Outcome.MISPLACED, Tone.BAD),
    (Outcome.REFUSED, Tone.BAD),
    (Outcome.UNANSWERED, Tone.BAD),
    (Outcome.UNWANTED, Tone.BAD),
    (Outcome.WITHHELD, Tone.GOOD),
    (Timeliness.AMBIGUOUS, Tone.UNSURE),
    (Outcome.VOID, Tone.VOID),
    (OPEN, Tone.UNSURE),
)


def summary_lines(rows: Sequence[SummaryRow], width: int) -> list[Line]:
    """The summary as an aligned table: the fullest form that ``width`` has room for."""
    if not rows:
        return []
    forms = (_summary_table(rows, bands=bands) for bands in (True, False))
    for lines in forms:
        if max(map(line_cells, lines)) <= width:
            return lines
    return _summary_by_scenario(rows, width)


def _summary_by_scenario(rows: Sequence[SummaryRow], width: int) -> list[Line]:
    """Without the scenario's column: a heading for each scenario, and fewer columns of latency where it is tight."""
    lines: list[Line] = []
    for scenario in dict.fromkeys(row.scenario for row in rows):
        own = [row for row in rows if row.scenario == scenario]
        forms = [_summary_table(own, heading=True, dropped=dropped) for dropped in _DROPPED]
        chosen = next((form for form in forms if max(map(line_cells, form)) <= width), forms[-1])
        lines += [*([()] if lines else []), (Span(printable(scenario), Tone.STRONG),), *chosen]
    return lines


_DROPPED: Sequence[frozenset[str]] = tuple(
    frozenset(("uncertainty", "p50", "max", "p95")[:count]) for count in range(5)
)


def _summary_table(
    rows: Sequence[SummaryRow],
    *,
    bands: bool = False,
    heading: bool = False,
    dropped: frozenset[str] = frozenset(),
) -> list[Line]:
    counted = [(word, tone) for word, tone in _COUNTED if any(_count(row, word) for row in rows)]
    quantiles = [name for name in ("p50", "p95", "max") if name not in dropped]
    uncertain = "uncertainty" not in dropped
    header = [
        *([] if heading else ["scenario"]),
        "channel",
        "expected",
        "on time",
        *(word.replace("_", " ") for word, _ in counted),
        *quantiles,
        *(["uncertainty"] if uncertain else []),
    ]
    body = [
        [
            *([] if heading else [Span(row.scenario)]),
            Span(row.channel),
            Span(str(row.expected)),
            _on_time(row),
            *(_counted(_count(row, word), tone) for word, tone in counted),
            *(_quantile(row, name, bands=bands) for name in quantiles),
            *([_uncertainty(row)] if uncertain else []),
        ]
        for row in rows
    ]
    return table(header, body, left=1 if heading else 2, indent=2)


def _on_time(row: SummaryRow) -> Span:
    count = row.by_timeliness[Timeliness.ON_TIME]
    return Span(str(count), Tone.GOOD if count == row.expected else Tone.PLAIN)


def _count(row: SummaryRow, word: str) -> int:
    if word == OPEN:
        return row.open
    if word == Outcome.VOID.value:
        return max(row.by_outcome[Outcome.VOID], row.by_timeliness[Timeliness.VOID])
    return row.by_timeliness[Timeliness(word)] if word in list(Timeliness) else row.by_outcome[Outcome(word)]


def _counted(count: int, tone: Tone) -> Span:
    return Span(str(count), tone if count else Tone.FAINT)


def _quantile(row: SummaryRow, name: str, *, bands: bool) -> Span:
    if f"latency_{name}" in row.undelivered:
        return Span(f"> {format_duration(row.within if row.open else row.give_up)}", Tone.BAD)
    upper: float | None = getattr(row, f"latency_{name}")
    lower: float | None = getattr(row, f"latency_{name}_lower")
    if upper is None or lower is None:
        return Span("-", Tone.FAINT)
    if bands and lower == 0:
        return Span(f"≤ {seconds_text(upper)} s")
    if bands and seconds_text(lower) != seconds_text(upper):
        return Span(f"{seconds_text(lower)} to {seconds_text(upper)} s")
    return Span(f"{seconds_text(upper)} s")


def _uncertainty(row: SummaryRow) -> Span:
    if row.uncertainty_max is None:
        return Span("-", Tone.FAINT)
    return Span(f"± {seconds_text(row.uncertainty_max / 2)} s")
