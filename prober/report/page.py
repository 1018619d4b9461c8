"""An overview as one self-contained page: no script, no asset from elsewhere, every text escaped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import jinja2

from prober import __version__
from prober.clock import rfc3339
from prober.durations import format_duration
from prober.model import Outcome, Timeliness
from prober.objectives import Indicator
from prober.report import figures, plots
from prober.report.lines import printable
from prober.report.overview import Lane, Overview
from prober.report.provider_share import share_sentence
from prober.report.ruling import result_of
from prober.report.values import ProbeResult, Result

TEMPLATES = Path(__file__).parent / "templates"

INDICATOR_WORDS = {
    Indicator.PUBLISH: "publications accepted",
    Indicator.TIMELINESS: "deliveries on time",
    Indicator.DELIVERY: "deliveries that arrived whole",
    Indicator.SILENCE: "cancelled ones that stayed away",
    Indicator.JOURNEY: "probes kept on every channel",
    Indicator.API_LATENCY: "answers in time",
}


def overview_page(overview: Overview) -> str:
    """The page's HTML. Whatever a name or an answer says, it stays text."""
    return (
        templates_in(TEMPLATES)
        .get_template("overview.html.j2")
        .render(
            overview=overview,
            scenarios=_by_scenario(overview),
            plots=plots,
            figures=figures,
            indicators=INDICATOR_WORDS,
            duration=format_duration,
            instant=rfc3339,
            troubles=_troubles,
            share_sentence=share_sentence,
            counts=_counts,
            version=__version__,
        )
    )


def templates_in(folder: Path) -> jinja2.Environment:
    """The templates of a folder, by which a text stays text: escaped, and without control characters."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )


def _by_scenario(overview: Overview) -> dict[str, list[Lane]]:
    found: dict[str, list[Lane]] = {}
    for lane in overview.lanes:
        found.setdefault(lane.scenario, []).append(lane)
    return found


_COLUMNS: tuple[tuple[str, str, Callable[[Lane], int]], ...] = (
    ("overdue", "t-bad", lambda lane: lane.by_timeliness[Timeliness.OVERDUE]),
    ("early", "t-bad", lambda lane: lane.by_timeliness[Timeliness.EARLY]),
    ("lost", "t-bad", lambda lane: lane.by_outcome[Outcome.LOST]),
    ("damaged", "t-bad", lambda lane: lane.by_outcome[Outcome.DAMAGED]),
    ("misplaced", "t-bad", lambda lane: lane.by_outcome[Outcome.MISPLACED]),
    ("refused", "t-bad", lambda lane: lane.by_outcome[Outcome.REFUSED]),
    ("unanswered", "t-bad", lambda lane: lane.by_outcome[Outcome.UNANSWERED]),
    ("unwanted", "t-bad", lambda lane: lane.by_outcome[Outcome.UNWANTED]),
    ("withheld", "t-good", lambda lane: lane.by_outcome[Outcome.WITHHELD]),
    ("ambiguous", "t-warn", lambda lane: lane.by_timeliness[Timeliness.AMBIGUOUS]),
    ("void", "t-void", lambda lane: lane.void),
    ("open", "t-warn", lambda lane: lane.open),
)


def _counts(lanes: Sequence[Lane]) -> list[tuple[str, str, list[int]]]:
    """The columns of counts in which there is something: name, tone, and one count for each lane."""
    columns = [(name, tone, [count(lane) for lane in lanes]) for name, tone, count in _COLUMNS]
    return [column for column in columns if any(column[2])]


def _troubles(probe: ProbeResult) -> list[tuple[str, str, str]]:
    """Channel, word and reason of each delivery that did not go well."""
    found = []
    for delivery in probe.deliveries:
        result, word = result_of(delivery)
        if result is not Result.PASS:
            reason = next((v.reason for v in (delivery.outcome, delivery.timeliness) if v is not None and v.reason), "")
            found.append((delivery.channel, word.replace("_", " "), reason))
    return found
