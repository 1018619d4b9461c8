"""What a gate found -> lines for people."""

from __future__ import annotations

from collections.abc import Sequence

from prober.report.gate_values import ChannelFinding, GateFinding, GateResult, names_of, words_text
from prober.report.lines import Line, Span, Tone, cells, hang, table
from prober.report.quantities import seconds_text
from prober.report.text import MARKS, RESULT_TONES
from prober.report.values import Result

UNDECIDED = "undecided"
_HEADER = ("channel", "", "good", "bad", "void", "still needed")


def result_word(channel: ChannelFinding) -> str:
    """A channel's result as people read it."""
    return UNDECIDED if channel.result is Result.INCONCLUSIVE else channel.result.value.upper()


def standing_lines(finding: GateFinding) -> list[Line]:
    """How each channel stands, with the good probes that it still needs."""
    rows = []
    for name, channel in zip(names_of(finding.channels), finding.channels, strict=True):
        bad = Tone.BAD if channel.bad else Tone.PLAIN
        void = Tone.VOID if channel.void else Tone.PLAIN
        rows.append(
            (
                Span(name),
                Span(result_word(channel), RESULT_TONES[channel.result]),
                Span(str(channel.good)),
                Span(str(channel.bad), bad),
                Span(str(channel.void), void),
                Span(str(channel.needed) if channel.needed else "-"),
            )
        )
    return table(_HEADER, rows, left=2, indent=2)


def progress_line(finding: GateFinding, launched: int, seconds: float) -> Line:
    """One line of progress, for a log."""
    parts = [
        f"{name} {channel.good} good" + (f", {channel.bad} bad" if channel.bad else "")
        + (f", {channel.needed} more needed" if channel.needed else f", {channel.result}")
        for name, channel in zip(names_of(finding.channels), finding.channels, strict=True)
    ]  # fmt: skip
    return (Span(f"{seconds:.0f} s, {launched} launched: {'; '.join(parts)}", Tone.FAINT),)


def gate_lines(result: GateResult, width: int) -> list[Line]:
    """How each channel stands, why, the result, what it proves and what not."""
    finding = result.finding
    word = finding.result.value.upper()
    spent = f"launched {result.launched} times in {seconds_text(result.seconds)} s"
    head = (Span(f"gate {finding.profile}", Tone.STRONG), Span(f"  {spent}", Tone.FAINT))
    lines: list[Line] = [(), head, *standing_lines(finding), *_detail_lines(finding.channels, width), ()]
    lines += hang((Span(word, RESULT_TONES[finding.result]),), finding.reason, width, indent=cells(word) + 2,
                  tone=Tone.STRONG)  # fmt: skip
    lines += hang((Span("Proves:     ", Tone.FAINT),), finding.proves, width, indent=14, tone=Tone.PLAIN)
    lines += hang((Span("Leaves open:", Tone.FAINT),), finding.leaves_open, width, indent=14, tone=Tone.PLAIN)
    return lines


def _detail_lines(channels: Sequence[ChannelFinding], width: int) -> list[Line]:
    """How the bad and void ones ended, and by which probes to look it up."""
    lines: list[Line] = []
    for name, channel in zip(names_of(channels), channels, strict=True):
        if channel.words:
            mark = (Span(f"  {MARKS[channel.result]} ", RESULT_TONES[channel.result]), Span(name))
            text = f"{words_text(channel.words)}: probe {', '.join(channel.examples)}"
            lines += hang(mark, text, width, indent=4, tone=Tone.PLAIN)
        if channel.later_bad:
            text = f"{channel.later_bad} more bad after its decision, which stands"
            lines += hang((Span("    "), Span(name)), text, width, indent=4, tone=Tone.UNSURE)
    return lines
