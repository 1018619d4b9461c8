"""Result values -> lines for people, at any width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prober.durations import format_duration
from prober.model import Outcome, PublishResult, Timeliness, VoidReason
from prober.report.lines import Line, Span, Tone, cells, hang, line_cells, pad, printable
from prober.report.quantities import latency_text, seconds_text
from prober.report.ruling import OPEN, answer_text, result_of
from prober.report.summary_table import summary_lines
from prober.report.values import DeliveryResult, ProbeResult, Result, RunResult

RESULT_TONES: Mapping[Result, Tone] = {
    Result.PASS: Tone.GOOD,
    Result.FAIL: Tone.BAD,
    Result.INCONCLUSIVE: Tone.UNSURE,
    Result.VOID: Tone.VOID,
}
MARKS: Mapping[Result, str] = {Result.PASS: "✓", Result.FAIL: "✗", Result.INCONCLUSIVE: "?", Result.VOID: "○"}

_VOID_PHRASES: Mapping[str, str] = {
    VoidReason.BLIND: "blind: could not be read",
    VoidReason.NO_COVERAGE: "no_coverage: not always read",
    VoidReason.OWN_FAULT: "own_fault: the prober's own",
    VoidReason.WORLD_GONE: "world_gone: nobody reads it now",
    VoidReason.STOP_TOO_LATE: "stop_too_late: could not tell",
}
"""Short enough to stand behind scenario, probe and channel on a terminal of 80 columns."""

_PUBLISH_PHRASES: Mapping[PublishResult, tuple[str, Tone]] = {
    PublishResult.ACCEPTED: ("accepted", Tone.PLAIN),
    PublishResult.REFUSED: ("refused", Tone.BAD),
    PublishResult.ERROR: ("failed", Tone.BAD),
    PublishResult.TIMEOUT: ("timed out", Tone.BAD),
    PublishResult.UNREACHABLE: ("target unreachable", Tone.BAD),
    PublishResult.INTERRUPTED: ("interrupted", Tone.UNSURE),
    PublishResult.OWN_FAULT: ("own fault", Tone.VOID),
}
LATE_OR_EARLY = (Timeliness.OVERDUE, Timeliness.EARLY)
WORD_CELLS = len("on time ")
"""The common words are aligned; the rare longer ones are not worth the columns."""


@dataclass(frozen=True, slots=True)
class Widths:
    """Columns that scenario, probe and channel take in the lines of one run."""

    scenario: int = 0
    probe: int = 0
    channel: int = 0

    def including(self, probe: ProbeResult) -> Widths:
        """Wide enough for this probe too."""
        return Widths(
            max(self.scenario, cells(probe.scenario)),
            max(self.probe, cells(probe.probe)),
            max(self.channel, *(cells(delivery.channel) for delivery in probe.deliveries), 0),
        )


def widths_of(probes: Iterable[ProbeResult]) -> Widths:
    """Wide enough for all of them."""
    widths = Widths()
    for probe in probes:
        widths = widths.including(probe)
    return widths


def _lead(mark: str, tone: Tone, probe: ProbeResult, widths: Widths) -> Line:
    return (
        Span(mark, tone),
        Span(" " + pad(printable(probe.scenario), widths.scenario)),
        Span("  " + pad(printable(probe.probe), widths.probe), Tone.FAINT),
    )


def launched_lines(probe: ProbeResult, widths: Widths, width: int) -> list[Line]:
    """That a probe was launched, what it asks for and what is promised."""
    lead = _lead("→", Tone.FAINT, probe, widths)
    channels = ", ".join(delivery.channel for delivery in probe.deliveries)
    within = max((delivery.within for delivery in probe.deliveries), default=None)
    promise = "" if within is None else f", within {format_duration(within)}"
    text = f"{probe.kind} to {channels or 'no channel'}{promise}"
    return hang(lead, text, width, indent=line_cells(lead) + 2, tone=Tone.PLAIN)


def answered_lines(probe: ProbeResult, widths: Widths, width: int) -> list[Line]:
    """How the target answered; nothing while it has not."""
    answer = probe.answer
    if answer is None:
        return []
    phrase, tone = _PUBLISH_PHRASES[answer.result]
    took = ""
    if probe.requested_at is not None and probe.answered_at is not None:
        took = f" in {seconds_text(max(0.0, probe.answered_at - probe.requested_at))} s"
    if answer.result is PublishResult.ACCEPTED:
        status = "" if answer.status is None else f" ({answer.status})"
        return [(*_lead(" ", tone, probe, widths), Span(f"  {phrase}{status}{took}"))]
    mark = {Tone.BAD: "✗", Tone.VOID: "○"}.get(tone, "…")
    lead = _lead(mark, tone, probe, widths)
    line = (*lead, Span("  "), Span(phrase, tone), Span(took))
    indent = line_cells(lead) + 2
    told = hang(line, answer_text(answer), width, indent=indent, tone=Tone.PLAIN)
    if not answer.correlation_id:
        return told
    *above, last = told
    number = f"correlation id {answer.correlation_id}"
    if line_cells(last) + 2 + cells(printable(number)) <= width:
        return [*above, *hang(last, number, width, indent=indent, tone=Tone.FAINT)]
    return [*told, *hang((Span(" " * (indent - 2)),), number, width, indent=indent, tone=Tone.FAINT)]


def delivery_lines(probe: ProbeResult, delivery: DeliveryResult, widths: Widths, width: int) -> list[Line]:
    """One delivery: its word, its latency with the uncertainty and what that rests on, and why where it is not good."""
    result, word = result_of(delivery)
    lead = (
        *_lead("…" if word == OPEN else MARKS[result], RESULT_TONES[result], probe, widths),
        Span("  " + pad(printable(delivery.channel), widths.channel)),
        Span("  "),
    )
    said = word.replace("_", " ")
    latency = "" if delivery.latency is None else latency_text(delivery.latency)
    why = "; ".join(filter(None, _why(delivery, result, word)))
    if not latency and not why:
        return [(*lead, Span(said, RESULT_TONES[result]))]
    line: Line = (*lead, Span(said, RESULT_TONES[result]))
    aligned: Line = (*lead, Span(pad(said, WORD_CELLS), RESULT_TONES[result]))
    if latency or line_cells(aligned) + 2 + cells(why) <= width:
        line = aligned
    if delivery.latency is not None:
        line = (*line, Span("  " + pad(latency, 17)))
        how, *refined = delivery.latency.basis.split("+")
        bases = (basis for basis in (", ".join((how, *refined)), how) if line_cells(line) + 2 + cells(basis) <= width)
        if basis := next(bases, ""):
            line = (*line, Span("  "), Span(basis, Tone.FAINT))
    return hang(line, why, width, indent=min(line_cells(lead), max(4, width - 40)), tone=Tone.PLAIN)


def _why(delivery: DeliveryResult, result: Result, word: str) -> Iterator[str]:
    timeliness, outcome = delivery.timeliness, delivery.outcome
    if result is Result.VOID:
        void = outcome if outcome is not None and outcome.verdict is Outcome.VOID else timeliness
        if void is not None:
            yield _VOID_PHRASES.get(void.reason, void.reason)
    elif outcome is not None and outcome.verdict.value == word:
        yield outcome.reason or "; ".join(delivery.checks)
        if word != Outcome.LOST.value and timeliness is not None and timeliness.verdict in LATE_OR_EARLY:
            yield timeliness.verdict.value
    elif timeliness is not None and result is not Result.PASS and not _is_plain(delivery, timeliness.verdict):
        yield timeliness.reason
    if outcome is None:
        yield f"waiting until {format_duration(delivery.give_up)}"
    if delivery.copies:
        yield f"{delivery.copies} {'copy' if delivery.copies == 1 else 'copies'} more"
    yield from delivery.stated


def _is_plain(delivery: DeliveryResult, verdict: Timeliness) -> bool:
    """Whether the word says it all: with its latency beside it, or while the delivery is still waited for."""
    if delivery.outcome is None:
        return verdict in (*LATE_OR_EARLY, Timeliness.MOOT)
    return verdict in LATE_OR_EARLY and delivery.latency is not None


def result_lines(result: RunResult, width: int) -> list[Line]:
    """The one line that says it all: ``PASS  3 of 3 deliveries on time``."""
    word = result.result.value.upper()
    head = (Span(word, RESULT_TONES[result.result]),)
    return hang(head, result.reason, width, indent=cells(word) + 2, tone=Tone.STRONG)


def closing_lines(result: RunResult, width: int) -> list[Line]:
    """The summary and the result, each after an empty line."""
    return [(), *summary_lines(result.summary, width), (), *result_lines(result, width)]


def run_lines(result: RunResult, width: int) -> list[Line]:
    """Everything about a run that is over: failed publications, deliveries, summary, result."""
    widths = widths_of(result.probes)
    lines: list[Line] = []
    for probe in result.probes:
        if probe.answer is not None and probe.answer.result is not PublishResult.ACCEPTED:
            lines += answered_lines(probe, widths, width)
        for delivery in probe.deliveries:
            lines += delivery_lines(probe, delivery, widths, width)
    return [*lines, *closing_lines(result, width)]
