"""``limits.sweep`` and ``limits.retention`` of the configuration: how long debris and records stay."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from prober.clean_up import Keeping, Retention, Upkeep
from prober.durations import parse_duration
from prober.validation import Form

_KEEPING, _RETENTION = Keeping(), Retention()

Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
Days = Annotated[float, BeforeValidator(parse_duration), Field(ge=3600)]


class SweepForm(Form):
    """For how long what may be removed stays where it is."""

    success: Duration = _KEEPING.success
    failure: Duration = _KEEPING.failure
    leftover: Days = _KEEPING.leftover

    @model_validator(mode="after")
    def _failures_longer(self) -> Self:
        if self.failure < self.success:
            raise ValueError("failure is shorter than success: failures are kept at least as long, to be looked at")
        return self


class RetentionForm(Form):
    """For how long the ledger keeps settled probes and the totals of each hour; the totals themselves stay."""

    success: Days = _RETENTION.success
    failure: Days = _RETENTION.failure
    hourly: Days = _RETENTION.hourly

    @model_validator(mode="after")
    def _failures_longer(self) -> Self:
        if self.failure < self.success:
            raise ValueError("failure is shorter than success: failures are kept at least as long, to be looked at")
        return self


def upkeep_of(sweep: SweepForm, retention: RetentionForm) -> Upkeep:
    """What the forms stand for."""
    return Upkeep(Keeping(**sweep.model_dump()), Retention(**retention.model_dump()))
