"""What recurs by the files: for ``serve``, which stays, and for ``tick``, which comes and goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prober.assembly import drafting
from prober.channel_choice import resolve_channels
from prober.config import Settings
from prober.errors import ConfigurationError
from prober.model import Scenario
from prober.nearest import did_you_mean
from prober.resources import contents_directory, scenarios_directory
from prober.scenario_files import load_scenarios
from prober.serve_form import ServeSettings
from prober.serving import Loaded


def loaded_from(
    settings: Settings, serve: ServeSettings, names: Sequence[str], scenarios: str | None, *, read_only: bool = False
) -> Loaded:
    """The files as they are now; who is ``read_only`` needs no target and no schedule. Raises ConfigurationError."""
    directory = Path(scenarios) if scenarios else scenarios_directory()
    known = load_scenarios(directory, contents_directory())
    chosen = _known(known, names)
    if not read_only:
        chosen = _recurring(chosen)
        drafting(settings)  # a wrong target is said now
    channels = {scenario.name: resolve_channels(scenario, settings.channels) for scenario in chosen}
    return Loaded(settings, serve, chosen, channels)


def _known(known: Mapping[str, Scenario], names: Sequence[str]) -> tuple[Scenario, ...]:
    for name in names:
        if name not in known:
            mend = did_you_mean(name, known) or f"there are {', '.join(known)}"
            raise ConfigurationError(f"there is no scenario {name!r}", mend, field="NAME")
    return tuple(known[name] for name in names) if names else tuple(known.values())


def _recurring(chosen: Sequence[Scenario]) -> tuple[Scenario, ...]:
    """Those that have a schedule."""
    recurring = tuple(s for s in chosen if s.schedule.every is not None or s.schedule.cron is not None)
    if not recurring:
        raise ConfigurationError("no scenario has a schedule", "add one, such as schedule: {every: 1m}", field="NAME")
    return recurring
