"""The front of this room: the values of a result, what is computed from them, and their JSON."""

from __future__ import annotations

from collections.abc import Iterable

from prober.report.ruling import judge_run
from prober.report.schema import result_schema
from prober.report.summary import summarise
from prober.report.values import (
    AnswerResult,
    DeliveryResult,
    ProbeResult,
    Result,
    RunResult,
    SummaryRow,
    TargetName,
    VerdictResult,
    exit_code,
    json_text,
    to_json,
)

__all__ = [
    "AnswerResult",
    "DeliveryResult",
    "ProbeResult",
    "Result",
    "RunResult",
    "SummaryRow",
    "TargetName",
    "VerdictResult",
    "exit_code",
    "json_text",
    "judge_run",
    "result_schema",
    "run_result",
    "summarise",
    "to_json",
]


def run_result(target: TargetName, probes: Iterable[ProbeResult]) -> RunResult:
    """Judge and summarise ``probes``."""
    probes = tuple(probes)
    result, reason = judge_run(probes)
    return RunResult(target, result, reason, probes, summarise(probes))
