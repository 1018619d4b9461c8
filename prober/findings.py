"""What an examination finds: values, the clocks that it met, and the one word that all of it comes to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum

from prober.clock import Instant
from prober.errors import Unreadable
from prober.model import Batch, Control

CLOCK_TOLERANCE = 1.0
"""Seconds by which a clock may be off, beyond what the measurement leaves open, without being mentioned."""

_DATE_RESOLUTION = 1.0
"""Seconds to which HTTP's Date is given, rounded down (RFC 9110, 5.6.7)."""

_UNSEEN = frozenset({"unreachable", "timeout", "rate_limited", "protocol"})
"""Reasons of an observer that hindered the examination itself, rather than being what it found."""

_MENDS = {
    "unreachable": "check network, host and firewall, and run this again",
    "timeout": "check network, host and firewall, and run this again",
    "rate_limited": "wait, and run this again",
    "protocol": "check that the address is that of the service",
    "auth": "put a valid token into the configuration",
    "login_refused": "check username and password",
    "tls": "check tls, ca_file and the server's certificate",
    "folder_missing": "check the folder's name and the account's rights",
    "missing_access": "grant the account the right to read and to post there",
    "missing_scope": "add the scope to the app and install it again",
    "not_in_channel": "invite the prober's bot and check the channel's id",
}

_NO_MEND = "in a way that the prober does not know"


class State(StrEnum):
    """How a finding is: fine, worth a look, wrong, or not to be told."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    """What all findings come to."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: a sentence, and the mend where there is one.

    What is ``unknown`` without a mend lies in the nature of what was examined: it is said, and does not count.
    """

    subject: str
    state: State
    sentence: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """By how many seconds the clock of ``source`` is ahead of ours, give or take ``uncertainty``."""

    source: str
    offset: float
    uncertainty: float


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found about one part (``target``, an observer's name, ``ledger`` …), and which clocks were met."""

    part: str
    findings: tuple[Finding, ...]
    clocks: tuple[ClockReading, ...] = ()


def ok(subject: str, sentence: str) -> Finding:
    return Finding(subject, State.OK, sentence)


def warning(subject: str, sentence: str, mend: str) -> Finding:
    return Finding(subject, State.WARNING, sentence, mend)


def wrong(subject: str, sentence: str, mend: str) -> Finding:
    return Finding(subject, State.WRONG, sentence, mend)


def unknown(subject: str, sentence: str, mend: str = "") -> Finding:
    return Finding(subject, State.UNKNOWN, sentence, mend)


def unread(subject: str, error: Unreadable) -> Finding:
    """An observer's error as a finding: its sentence, and the mend that it ends with or that its reason has."""
    sentence, _, mend = (error.detail or error.reason).rpartition("; ")
    if not sentence or mend.endswith(_NO_MEND):
        sentence, mend = (f"{sentence}; {mend}" if sentence else mend), ""
    state = State.UNKNOWN if error.reason in _UNSEEN else State.WRONG
    return Finding(subject, state, sentence, mend or _MENDS.get(error.reason, "check the configuration"))


def verdict(examined: Iterable[Examined]) -> Verdict:
    """``fail`` where anything is wrong, else ``void`` where something could not be examined, else ``pass``."""
    found = [finding for each in examined for finding in each.findings]
    if any(finding.state is State.WRONG for finding in found):
        return Verdict.FAIL
    if any(finding.state is State.UNKNOWN and finding.mend for finding in found):
        return Verdict.VOID
    return Verdict.PASS


def clock_of_date(source: str, date: str | None, asked: Instant, answered: Instant) -> tuple[ClockReading, ...]:
    """The reading that an HTTP answer's Date header gives; none without one that can be read.

    The server wrote it between ``asked`` and ``answered``, and cut it to whole seconds.
    """
    try:
        stamped = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return ()
    trip = answered.since(asked)
    offset = stamped + _DATE_RESOLUTION / 2 - (asked.wall + trip / 2)
    return (ClockReading(source, offset, _DATE_RESOLUTION / 2 + trip / 2),)


def clock_of_control(source: str, control: Control) -> ClockReading:
    """The reading that the stamp of a message of our own gives: made between its sending and the answer."""
    trip = control.answered.since(control.sent)
    offset = control.stamp.at + control.stamp.resolution / 2 - (control.sent.wall + trip / 2)
    return ClockReading(source, offset, control.stamp.resolution / 2 + trip / 2)


def examine_posts(source: str, batch: Batch) -> tuple[tuple[Finding, ...], tuple[ClockReading, ...]]:
    """What a first read says, which posted a message of our own to each channel and looked for it there."""
    findings = [ok("posting", f"{name} took our message, and its history shows it") for name in batch.readings]
    findings += [unread("posting", Unreadable(each.reason, each.detail)) for each in batch.blind.values()]
    return tuple(findings), tuple(clock_of_control(source, control) for control in batch.controls)


def clock_findings(readings: Sequence[ClockReading]) -> tuple[Finding, ...]:
    """Our clock against each other one. Where most say that ours is off in one direction, it is ours."""
    readings = _tightest(readings)
    if not readings:
        return (unknown("offset", "no other clock was met: nothing answered", "mend what cannot be reached first"),)
    off = [one for one in readings if abs(one.offset) > one.uncertainty + CLOCK_TOLERANCE]
    if len(off) > len(readings) / 2 and len(readings) > 1 and len({one.offset > 0 for one in off}) == 1:
        told = ", ".join(f"{one.source} {one.offset:+.1f} s" for one in off)
        return (wrong("offset", f"this machine's clock is off: {told}", "let chrony or systemd-timesyncd set it"),)
    lines = [
        warning(
            "offset",
            f"the clock of {one.source} is {abs(one.offset):.1f} s {'ahead of' if one.offset > 0 else 'behind'} ours",
            "let chrony or systemd-timesyncd set the wrong one of the two",
        )
        for one in off
    ]
    fine = [one for one in readings if one not in off]
    if fine:
        widest = max(abs(one.offset) + one.uncertainty for one in fine)
        lines.insert(0, ok("offset", f"agrees with {', '.join(one.source for one in fine)} to {widest:.1f} s"))
    return tuple(lines)


def timed_out(part: str, seconds: float) -> Examined:
    """That a part did not answer all questions in time."""
    sentence = f"not examined to the end within {seconds:g} s"
    return Examined(part, (unknown("reachable", sentence, "check network, host and firewall, and run this again"),))


def _tightest(readings: Iterable[ClockReading]) -> list[ClockReading]:
    """One reading of each source: the one that leaves least open."""
    best: dict[str, ClockReading] = {}
    for one in readings:
        if one.source not in best or one.uncertainty < best[one.source].uncertainty:
            best[one.source] = one
    return list(best.values())
