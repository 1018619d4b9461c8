"""``prober list``: the scenarios and where each would be watched."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from prober.channel_choice import resolve_channels
from prober.cli.options import load_for, one_of
from prober.config import Settings
from prober.durations import format_duration
from prober.errors import ConfigurationError
from prober.model import Scenario
from prober.resources import contents_directory, scenarios_directory
from prober.scenario_files import load_scenarios


def list_command(output: str, config: str | None, scenarios: str | None) -> None:
    """Write the scenarios to stdout. Raises ConfigurationError."""
    one_of("--output", output, ("text", "json"))
    settings = load_for(config)
    directory = Path(scenarios) if scenarios else scenarios_directory()
    rows = [_row(scenario, settings) for scenario in load_scenarios(directory, contents_directory()).values()]
    if output == "json":
        sys.stdout.write(json.dumps({"version": 1, "scenarios": rows}, indent=2) + "\n")
        return
    for row in rows:
        sys.stdout.write("\n".join(_lines(row)) + "\n")


def _row(scenario: Scenario, settings: Settings | None) -> dict[str, object]:
    channels, trouble = None, ""
    if settings is not None:
        try:
            channels = [channel.name for channel in resolve_channels(scenario, settings.channels)]
        except ConfigurationError as error:
            trouble = str(error)
    return {
        "name": scenario.name,
        "description": scenario.description,
        "kind": scenario.kind.value,
        "tags": sorted(scenario.tags),
        "asks": list(scenario.channels),
        "channels": channels,
        "trouble": trouble,
        "within": scenario.within,
        "give_up": scenario.give_up,
        "schedule": scenario.schedule.cron
        or (f"every {format_duration(scenario.schedule.every)}" if scenario.schedule.every else ""),
        "source": scenario.source,
    }


def _lines(row: dict[str, object]) -> list[str]:
    tags = " ".join(f"#{tag}" for tag in row["tags"])  # type: ignore[attr-defined]
    asks = ", ".join(row["asks"])  # type: ignore[arg-type]
    where = f"on {asks}"
    if row["channels"] is not None:
        where += f" = {', '.join(row['channels'])}"  # type: ignore[arg-type]
    bounds = f"within {format_duration(row['within'])}, give up {format_duration(row['give_up'])}"  # type: ignore[arg-type]
    lines = [f"{row['name']}  {tags}".rstrip(), f"    {row['description']}",
             f"    {row['kind']} {where}; {bounds}; {row['schedule']}".rstrip("; ")]  # fmt: skip
    return [*lines, f"    not usable here: {row['trouble']}"] if row["trouble"] else lines
