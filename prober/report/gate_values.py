"""What a gate found, as frozen values, and its JSON: a result as of ``run`` with a part ``gate``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from prober.report.values import Result, RunResult, to_json


class Limit(StrEnum):
    """What ended a gate before it was decided."""

    PROBES = "max_probes"
    TIME = "max_time"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class ChannelFinding:
    """What a gate found on one channel for one scenario; ``result`` is INCONCLUSIVE while it is undecided.

    ``good``, ``bad`` and ``void`` are the probes that counted, in the order of their launches, up to the decision.
    ``pending`` are launched and do not count yet; ``needed`` good ones in a row would make it a pass (0: decided);
    ``later_bad`` were bad after the decision, which stands. ``words`` says how the bad and void ones ended,
    ``examples`` names the first of them.
    """

    scenario: str
    channel: str
    within: float
    result: Result
    good: int = 0
    bad: int = 0
    void: int = 0
    pending: int = 0
    needed: int = 0
    later_bad: int = 0
    words: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateFinding:
    """The gate as a whole. ``proves`` and ``leaves_open`` are sentences; ``limit`` says what ended it undecided."""

    profile: str
    result: Result
    reason: str
    proves: str
    leaves_open: str
    channels: tuple[ChannelFinding, ...]
    limit: Limit | None = None

    @property
    def decided(self) -> bool:
        """Whether nothing that may still come could change the result."""
        return self.result is not Result.INCONCLUSIVE


@dataclass(frozen=True, slots=True)
class GateResult:
    """The whole answer of ``gate``: ``seconds`` from the first launch to the end, ``launched`` times of launch."""

    run: RunResult
    finding: GateFinding
    launched: int
    seconds: float


def gate_to_json(result: GateResult) -> dict[str, Any]:
    """The result as JSON values, described by ``result_schema``."""
    finding = result.finding
    return to_json(result.run) | {
        "gate": {
            "profile": finding.profile,
            "proves": finding.proves,
            "leaves_open": finding.leaves_open,
            "limit": finding.limit.value if finding.limit else None,
            "launched": result.launched,
            "seconds": result.seconds,
            "channels": [_channel_to_json(channel) for channel in finding.channels],
        }
    }


def _channel_to_json(channel: ChannelFinding) -> dict[str, Any]:
    return {
        "scenario": channel.scenario,
        "channel": channel.channel,
        "within": channel.within,
        "result": channel.result.value,
        "good": channel.good,
        "bad": channel.bad,
        "void": channel.void,
        "pending": channel.pending,
        "needed": channel.needed,
        "later_bad": channel.later_bad,
        "words": dict(channel.words),
        "examples": list(channel.examples),
    }


def names_of(channels: Sequence[ChannelFinding]) -> list[str]:
    """Each channel's name, with its scenario where there are several."""
    several = len({channel.scenario for channel in channels}) > 1
    return [f"{each.scenario} {each.channel}" if several else each.channel for each in channels]


def words_text(words: Mapping[str, int]) -> str:
    """How the bad and void ones ended: ``2 overdue, 1 damaged``."""
    return ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in words.items())
