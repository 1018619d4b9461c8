"""What a gate found, in the forms of continuous integration: JUnit XML, Markdown, GitHub's annotations.

Words in it may be the target's own (a refusal's title): in each form they are text and nothing else.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

from prober.durations import format_duration
from prober.report.gate_text import result_word
from prober.report.gate_values import ChannelFinding, GateResult, names_of, words_text
from prober.report.lines import printable
from prober.report.values import Result

_ICONS = {Result.PASS: "✅", Result.FAIL: "❌", Result.INCONCLUSIVE: "❔", Result.VOID: "⚪"}


def junit_text(result: GateResult) -> str:
    """One test case per channel, in the form that Jenkins and GitLab read.

    What is not a pass is never green: FAIL is a failure, VOID and what is undecided are errors; only what a FAIL or
    VOID of another channel has left undecided counts as skipped.
    """
    finding = result.finding
    suite = ET.Element("testsuite", name=f"prober gate {finding.profile}", time=f"{result.seconds:.3f}")
    counts = {"tests": len(finding.channels), "failures": 0, "errors": 0, "skipped": 0}
    for channel in finding.channels:
        case = ET.SubElement(suite, "testcase", classname=channel.scenario, name=channel.channel,
                             time=f"{result.seconds:.3f}")  # fmt: skip
        tag = _junit_tag(channel, finding.result)
        if tag:
            counts[{"failure": "failures", "error": "errors"}.get(tag, tag)] += 1
            ET.SubElement(case, tag, message=_xml(_sentence(channel)), type=channel.result.value)
    for name, count in counts.items():
        suite.set(name, str(count))
    ET.SubElement(suite, "system-out").text = _xml(f"{finding.reason}. Proves: {finding.proves}.")
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode")


def _junit_tag(channel: ChannelFinding, gate: Result) -> str:
    if channel.result is Result.PASS:
        return ""
    if channel.result is Result.FAIL:
        return "failure"
    left = channel.result is Result.INCONCLUSIVE and gate in {Result.FAIL, Result.VOID}
    return "skipped" if left else "error"


def _xml(text: str) -> str:
    """Without characters that XML 1.0 cannot hold, escaped or not."""
    return "".join(char for char in printable(text) if char not in "\ufffe\uffff" and not "\ud800" <= char <= "\udfff")


def _sentence(channel: ChannelFinding) -> str:
    counted = channel.good + channel.bad
    parts = [f"{result_word(channel)}: {channel.bad} of {counted} bad within {format_duration(channel.within)}"]
    if channel.void:
        parts.append(f"{channel.void} void")
    if channel.words:
        parts.append(f"{words_text(channel.words)} (probe {', '.join(channel.examples)})")
    if channel.needed:
        parts.append(f"{channel.needed} more good ones needed")
    return "; ".join(parts)


def markdown_text(result: GateResult) -> str:
    """For ``$GITHUB_STEP_SUMMARY`` or a merge request's comment."""
    finding = result.finding
    word = finding.result.value.upper()
    lines = [
        f"## {_ICONS[finding.result]} prober gate {finding.profile}: {word}",
        "",
        f"{_markdown(finding.reason)}.",
        "",
        "| channel | result | good | bad | void | still needed | |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for name, channel in zip(names_of(finding.channels), finding.channels, strict=True):
        how = f"{words_text(channel.words)}: {', '.join(channel.examples)}" if channel.words else ""
        cells = (name, f"{_ICONS[channel.result]} {result_word(channel)}", str(channel.good), str(channel.bad),
                 str(channel.void), str(channel.needed) if channel.needed else "", how)  # fmt: skip
        lines.append("| " + " | ".join(map(_markdown, cells)) + " |")
    lines += [
        "",
        f"**Proves:** {_markdown(finding.proves)}.  ",
        f"**Does not prove:** {_markdown(finding.leaves_open)}.",
        "",
        f"{result.launched} launches in {result.seconds:.0f} s against {_markdown(result.run.target.name)}"
        + (" (the embedded sandbox)." if result.run.target.sandbox else "."),
    ]
    return "\n".join(lines) + "\n"


def _markdown(text: str) -> str:
    """Text that no Markdown and no HTML is made of."""
    escaped = "".join(f"\\{char}" if char in "\\`*_{}[]()#!|~$@" else char for char in printable(text))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("://", ":&#8203;//")


def annotation_lines(result: GateResult) -> Iterator[str]:
    """GitHub's workflow commands: an error per channel that failed, and one for a gate that is not a pass."""
    finding = result.finding
    for name, channel in zip(names_of(finding.channels), finding.channels, strict=True):
        if channel.result is Result.FAIL:
            yield _command("error", f"{name} fails the gate", _sentence(channel))
    if finding.result is Result.PASS:
        yield _command("notice", f"prober gate {finding.profile}: PASS", finding.proves)
    elif finding.result is not Result.FAIL:
        yield _command("error", f"prober gate {finding.profile}: {finding.result.value.upper()}", finding.reason)


def _command(command: str, title: str, message: str) -> str:
    return f"::{command} title={_property(title)}::{_command_text(message)}"


def _command_text(text: str) -> str:
    return printable(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _command_text(text).replace(":", "%3A").replace(",", "%2C")
