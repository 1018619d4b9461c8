"""The ``objectives`` of ``prober.yaml``: their form, and what it stands for."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from prober.bounds import PUBLISH_BOUNDS
from prober.burn_windows import BURN_WINDOWS
from prober.durations import format_duration
from prober.model import PublicationKind
from prober.nearest import did_you_mean
from prober.objectives import DEFAULT_OBJECTIVES, PER_CHANNEL, Indicator, Objective
from prober.validation import Form, Name, Seconds
from prober.yaml_source import Loc

_PERCENT = re.compile(r"\s*([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%\s*")
_LONGEST = 400 * 86400.0
"""Totals by the hour are kept so long."""


def parse_share(value: Any) -> float:
    """A share between 0 and 1 from ``99.9%`` or ``0.999``. Raises ValueError with the mend."""
    share = value
    if isinstance(value, str):
        match = _PERCENT.fullmatch(value)
        share = float(Decimal(match[1]) / 100) if match else None  # 99.9 / 100 is a little more than 0.999
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise ValueError(f"{value!r} is no goal: write a share such as 99.5%, more than 0% and less than 100%")
    return float(share)


def _checked_window(seconds: float) -> float:
    shortest = max(pair.long for pair in BURN_WINDOWS)
    if not shortest <= seconds <= _LONGEST:
        raise ValueError(f"must be between {format_duration(shortest)} and {format_duration(_LONGEST)}")
    return seconds


Goal = Annotated[
    float,
    BeforeValidator(parse_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*\d{1,3}(\.\d{1,6})?\s*%\s*$"},
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            ],
            "description": "A share such as 99.5%; a bare number lies between 0 and 1.",
        }
    ),
]


class ObjectiveForm(Form):
    """Which share of the events must be good; ``kinds``, ``scenarios`` and ``channels`` choose what counts."""

    indicator: Indicator
    goal: Goal
    window: Annotated[Seconds, AfterValidator(_checked_window)] = 30 * 86400.0
    within: Seconds | None = None
    kinds: Annotated[tuple[PublicationKind, ...], Field(min_length=1)] | None = None
    scenarios: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    channels: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None


def objectives_of(forms: Mapping[str, ObjectiveForm] | None) -> tuple[Objective, ...]:
    """The configured objectives, the defaults where none is written."""
    if forms is None:
        return DEFAULT_OBJECTIVES
    return tuple(
        Objective(
            name,
            form.indicator,
            form.goal,
            form.window,
            frozenset(form.kinds or ()),
            frozenset(form.scenarios or ()),
            frozenset(form.channels or ()),
            form.within,
        )
        for name, form in forms.items()
    )


def wrong_objectives(forms: Mapping[str, ObjectiveForm], channels: Collection[str]) -> Iterator[tuple[str, str, Loc]]:
    """What no single field can know is wrong: problem, mend, place."""
    for name, form in forms.items():
        loc: Loc = ("objectives", name)
        yield from ((problem, mend, (*loc, field)) for problem, mend, field in _wrong_within(form))
        if form.channels and form.indicator not in PER_CHANNEL:
            yield f"{form.indicator} is counted for all channels together", "remove it", (*loc, "channels")
            continue
        for at, channel in enumerate(form.channels or ()):
            if channel not in channels:
                mend = did_you_mean(channel, channels) or "configure it under channels"
                yield "no channel has this name", mend, (*loc, "channels", at)


def _wrong_within(form: ObjectiveForm) -> Iterator[tuple[str, str, str]]:
    if form.indicator is not Indicator.API_LATENCY:
        if form.within is not None:
            yield "a delivery's deadline is its scenario's", "remove it, and set within in the scenario", "within"
    elif form.within is None:
        yield "an api_latency needs a limit", "add within: 150ms", "indicator"
    elif form.within not in PUBLISH_BOUNDS:
        known = ", ".join(map(format_duration, PUBLISH_BOUNDS))
        yield "answers are counted up to certain limits only", f"one of {known}", "within"
