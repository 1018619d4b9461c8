"""What ``check`` found as text, one line each, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prober.findings import Examined, Finding, State, Verdict, verdict
from prober.report.lines import Line, Span, Tone, cells, pad, shorten
from prober.report.values import TargetName

CHECK_VERSION = 1
"""The version of the JSON: raised when a field changes its meaning or goes, not when one is added."""

EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.VOID: 4}

_MARKS = {
    State.OK: ("✓", Tone.GOOD),
    State.WARNING: ("!", Tone.UNSURE),
    State.WRONG: ("✗", Tone.BAD),
    State.UNKNOWN: ("?", Tone.VOID),
}
_WORDS = {Verdict.PASS: ("PASS", Tone.GOOD), Verdict.FAIL: ("FAIL", Tone.BAD), Verdict.VOID: ("VOID", Tone.VOID)}
_MOST_SENTENCE = 300


def checklist_lines(examined: Sequence[Examined]) -> list[Line]:
    """A line for each finding, and a last one that says what they come to."""
    subjects = [f"{each.part}: {finding.subject}" for each in examined for finding in each.findings]
    width = max(map(cells, subjects), default=0)
    findings = [finding for each in examined for finding in each.findings]
    lines = [_line(subject, finding, width) for subject, finding in zip(subjects, findings, strict=True)]
    return [*lines, (), _closing(examined)]


def checklist_to_json(examined: Sequence[Examined], target: TargetName) -> dict[str, Any]:
    """The same for a program; offsets and uncertainties of clocks in seconds."""
    return {
        "version": CHECK_VERSION,
        "target": {"name": target.name, "sandbox": target.sandbox},
        "result": verdict(examined).value,
        "findings": [
            {
                "part": each.part,
                "subject": finding.subject,
                "state": finding.state.value,
                "sentence": shorten(finding.sentence, 1000),
                "mend": finding.mend,
            }
            for each in examined
            for finding in each.findings
        ],
        "clocks": [
            {"source": one.source, "offset": one.offset, "uncertainty": one.uncertainty}
            for each in examined
            if each.part == "clock"
            for one in each.clocks
        ],
    }


def _line(subject: str, finding: Finding, width: int) -> Line:
    mark, tone = _MARKS[finding.state]
    told = Span(f"{pad(subject, width)}  {shorten(finding.sentence, _MOST_SENTENCE)}")
    return (Span(f"{mark} ", tone), told, *((Span(f" → {finding.mend}", Tone.FAINT),) if finding.mend else ()))


def _closing(examined: Sequence[Examined]) -> Line:
    word, tone = _WORDS[verdict(examined)]
    return (Span(f"{word}  ", tone), Span(", ".join(_counts(examined))))


def _counts(examined: Sequence[Examined]) -> Iterator[str]:
    states = [finding.state for each in examined for finding in each.findings]
    words = {State.WRONG: "wrong", State.UNKNOWN: "not to be told", State.WARNING: "worth a look", State.OK: "fine"}
    for state, word in words.items():
        if count := states.count(state):
            yield f"{count} {word}"
