"""The ``limits`` of ``prober.yaml``: their form, and what it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field

from prober.clean_up import Upkeep
from prober.launching import Budget, Limits, Maintenance
from prober.model import ChannelKind, Schedule
from prober.schedule import validate as validate_schedule
from prober.upkeep_form import RetentionForm, SweepForm, upkeep_of
from prober.validation import NAMED, Form, Name, Seconds
from prober.yaml_source import Loc

PRICES: Mapping[ChannelKind, float] = {ChannelKind.EMAIL: 0.0001}
"""US dollars per message: Amazon SES's list price of 0.10 USD per 1,000 mails; Slack and Discord charge nothing."""

_Bound = Annotated[int, Field(ge=0)]


class BudgetForm(Form):
    """How many publications, per clock hour and per day (UTC), and how many probes in flight."""

    per_hour: _Bound | None = None
    per_day: _Bound | None = None
    in_flight: _Bound | None = None


class MaintenanceForm(Form):
    """When nothing is launched: ``from`` one time ``to`` another, or ``for`` so long from each ``cron`` time."""

    start: AwareDatetime | None = Field(default=None, alias="from")
    end: AwareDatetime | None = Field(default=None, alias="to")
    cron: str | None = None
    time_zone: str = "UTC"
    duration: Seconds | None = Field(default=None, alias="for")
    scenarios: tuple[Name, ...] = ()


class LimitsForm(BudgetForm):
    """Budgets in all and of single scenarios, maintenance windows, the kill switch, what a message costs, and how long
    debris and records stay."""

    scenarios: dict[Name, BudgetForm] = Field(default_factory=dict, json_schema_extra=NAMED)
    maintenance: tuple[MaintenanceForm, ...] = ()
    kill_switch: Annotated[str, Field(min_length=1)] | None = None
    prices: dict[ChannelKind, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    sweep: SweepForm = SweepForm()
    retention: RetentionForm = RetentionForm()


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """The limits, the path of the kill switch (empty: none), prices in US dollars by kind of channel, and how long
    debris and records stay."""

    limits: Limits = field(default_factory=Limits)
    kill_switch: str = ""
    prices: Mapping[str, float] = field(default_factory=lambda: {str(kind): price for kind, price in PRICES.items()})
    upkeep: Upkeep = field(default_factory=Upkeep)


def limits_of(form: LimitsForm, folder: Path) -> LimitSettings:
    """What the form stands for; a relative kill switch counts from the configuration's ``folder``."""
    return LimitSettings(
        Limits(
            _budget(form),
            {name: _budget(budget) for name, budget in form.scenarios.items()},
            tuple(_maintenance(window) for window in form.maintenance),
        ),
        str(folder / Path(form.kill_switch).expanduser()) if form.kill_switch else "",
        {str(kind): price for kind, price in {**PRICES, **form.prices}.items()},
        upkeep_of(form.sweep, form.retention),
    )


def wrong_limits(form: LimitsForm) -> Iterator[tuple[str, str, Loc]]:
    """What no single field can know is wrong: problem, mend, place."""
    for at, window in enumerate(form.maintenance):
        loc: Loc = ("limits", "maintenance", at)
        if (window.cron is None) == (window.start is None):
            yield "a window is either from a time or by cron", "write from and to, or cron and for", loc
        elif window.start is not None:
            if window.end is None or window.end <= window.start:
                yield "the window has no end after its beginning", "write a later time", (*loc, "to")
        elif not window.duration:
            yield "a window by cron needs a length", "add for, such as for: 2h", loc
        if window.cron is not None:
            try:
                validate_schedule(Schedule(cron=window.cron, time_zone=window.time_zone))
            except ValueError as error:
                yield str(error), "", (*loc, "cron")


def _budget(form: BudgetForm) -> Budget:
    return Budget(form.per_hour, form.per_day, form.in_flight)


def _maintenance(form: MaintenanceForm) -> Maintenance:
    scenarios = frozenset(form.scenarios)
    if form.cron is not None:
        recurring = Schedule(cron=form.cron, time_zone=form.time_zone)
        return Maintenance(recurring=recurring, duration=form.duration or 0.0, scenarios=scenarios)
    assert form.start is not None and form.end is not None  # noqa: S101, PT018 - wrong_limits has looked
    return Maintenance(form.start.timestamp(), form.end.timestamp(), scenarios=scenarios)
