"""Options that several commands share: read, checked, and named in errors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from prober.config import Settings, find_configuration, load_settings
from prober.durations import parse_duration
from prober.errors import ConfigurationError
from prober.nearest import did_you_mean
from prober.report.values import TargetName


def duration_option(option: str, text: str | None) -> float | None:
    """An option's seconds, None when it was not given. Raises ConfigurationError that names the option."""
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise ConfigurationError(str(error), field=option) from None
    if seconds <= 0:
        raise ConfigurationError(f"{text!r} is no time to wait", "give more than 0", field=option)
    return seconds


def one_of(option: str, value: str, choices: Sequence[str]) -> str:
    """The value if it is one of the choices. Raises ConfigurationError that names the nearest."""
    if value not in choices:
        mend = did_you_mean(value, choices) or f"one of {', '.join(choices)}"
        raise ConfigurationError(f"{value!r} is not known", mend, field=option)
    return value


def load_for(config: str | None) -> Settings | None:
    """The configuration that applies, None where there is none. Raises ConfigurationError."""
    path = find_configuration(config, os.environ, Path.cwd())
    return None if path is None else load_settings(path)


def target_name(settings: Settings | None) -> TargetName:
    """Which target a configuration is about, as far as a reader of its ledger can tell."""
    url = str(settings.target.get("url", "")) if settings is not None and settings.target is not None else ""
    return TargetName(url or "unknown", sandbox=settings is not None and settings.environment == "sandbox")
