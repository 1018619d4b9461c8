"""A result as one line of a Nagios plug-in, with performance data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from prober.report.lines import shorten
from prober.report.values import Result, RunResult, SummaryRow

_EXIT_CODES: Mapping[Result, int] = {Result.PASS: 0, Result.FAIL: 2}
_WORDS = {0: "OK", 2: "CRITICAL", 3: "UNKNOWN"}
_UNKNOWN = 3


def nagios_exit_code(result: Result) -> int:
    """0 for pass, 2 for fail, 3 for everything else."""
    return _EXIT_CODES.get(result, _UNKNOWN)


def nagios_line(result: RunResult) -> str:
    """``PROBER OK - alert-latency: 3 of 3 deliveries on time | email_latency=0.050s;30;120;0``.

    The performance data are the greatest upper bound per channel with the deadline as warning and the horizon as
    critical threshold; ``U`` where a delivery is missing or nothing was seen.
    """
    word = _WORDS[nagios_exit_code(result.result)]
    scenarios = dict.fromkeys(probe.scenario for probe in result.probes)
    head = ", ".join(scenarios) or result.target.name
    said = f"{result.result.value}: {result.reason}" if word == "UNKNOWN" else result.reason
    text = shorten(f"PROBER {word} - {head}: {said}".replace("|", "/"), 1000)
    data = " ".join(_datum(row, several=len(scenarios) > 1) for row in result.summary)
    return f"{text} | {data}" if data else text


def _datum(row: SummaryRow, *, several: bool) -> str:
    name = f"{row.scenario}_{row.channel}" if several else row.channel
    label = re.sub(r"[^A-Za-z0-9_.-]", "_", name) + "_latency"
    value = "U" if row.latency_max is None or math.isinf(row.latency_max) else f"{row.latency_max:.3f}s"
    return f"{label}={value};{row.within:g};{row.give_up:g};0"
