"""``prober list``: the scenarios, what each promises, and where each would be watched."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prober.channel_choice import resolve_channels
from prober.cli.live import is_screen
from prober.cli.options import load_for, one_of
from prober.config import Settings
from prober.durations import format_duration
from prober.errors import ConfigurationError
from prober.model import Arrive, Channel, Scenario
from prober.report.lines import Line, Span, Tone, fold, hang, write
from prober.report.values import json_text
from prober.resources import contents_directory, scenarios_directory
from prober.scenario_files import load_scenarios


@dataclass(frozen=True, slots=True)
class Listed:
    """A scenario and the configured channels that it stands for: None without a configuration, or with trouble."""

    scenario: Scenario
    channels: tuple[Channel, ...] | None
    trouble: str = ""


def list_command(output: str, config: str | None, scenarios: str | None) -> None:
    """Write the scenarios to stdout. Raises ConfigurationError."""
    one_of("--output", output, ("text", "json"))
    settings = load_for(config)
    directory = Path(scenarios) if scenarios else scenarios_directory()
    found = [_listed(scenario, settings) for scenario in load_scenarios(directory, contents_directory()).values()]
    if output == "json":
        sys.stdout.write(json_text({"version": 1, "scenarios": [_to_json(one) for one in found]}) + "\n")
        return
    width = shutil.get_terminal_size().columns
    write(listing_lines(found, settings, width), sys.stdout, colour=is_screen(sys.stdout))


def _listed(scenario: Scenario, settings: Settings | None) -> Listed:
    if settings is None or not settings.channels:
        return Listed(scenario, None)
    try:
        return Listed(scenario, resolve_channels(scenario, settings.channels))
    except ConfigurationError as error:
        return Listed(scenario, None, str(error))


def _to_json(one: Listed) -> dict[str, Any]:
    scenario = one.scenario
    return {
        "name": scenario.name,
        "description": scenario.description,
        "kind": scenario.kind.value,
        "tags": sorted(scenario.tags),
        "asks": list(scenario.channels),
        "channels": None if one.channels is None else [channel.name for channel in one.channels],
        "trouble": one.trouble,
        "within": scenario.within,
        "give_up": scenario.give_up,
        "schedule": _schedule(scenario),
        "source": scenario.source,
    }


def listing_lines(found: list[Listed], settings: Settings | None, width: int) -> list[Line]:
    """A paragraph for each scenario, and a last line that says where the channels come from."""
    lines: list[Line] = []
    for one in found:
        tags = " ".join(f"#{tag}" for tag in sorted(one.scenario.tags))
        lines += [(Span(one.scenario.name, Tone.STRONG), Span(f"  {tags}", Tone.FAINT))]
        lines += _told((Span("  "),), one.scenario.description, width, 2)
        for label, text in _facts(one):
            tone = Tone.BAD if label == "unusable" else Tone.FAINT
            lines += _told((Span(f"  {label:<9}  ", tone),), text, width, 13)
        lines.append(())
    return [*lines, *((Span(text, Tone.FAINT),) for text in fold(_origin(settings), width))]


def _told(front: Line, text: str, width: int, indent: int) -> list[Line]:
    """``text`` behind ``front``, folded below itself."""
    first, *below = hang((Span(" " * (indent - 2)),), text, width, indent=indent, tone=Tone.PLAIN)
    return [(*front, *first[2:]), *below]


def _facts(one: Listed) -> Iterator[tuple[str, str]]:
    scenario = one.scenario
    what = [scenario.kind.value, scenario.priority]
    what += [f"scheduled {format_duration(scenario.scheduled_after)} ahead"] if scenario.scheduled_after else []
    yield "publishes", ", ".join(filter(None, what))
    yield "watches", ", ".join(scenario.channels if one.channels is None else map(_named, one.channels))
    end = format_duration(scenario.give_up)
    if scenario.arrive is Arrive.NEVER:
        stop = f"cancelled after {format_duration(scenario.cancel_after)}, " if scenario.cancel_after else ""
        yield "promises", f"{stop}never arrives; watched for {end}"
    else:
        yield "promises", f"within {format_duration(scenario.within)}; given up after {end}"
    yield "runs", _schedule(scenario) or "on demand"
    if one.trouble:
        yield "unusable", one.trouble


def _named(channel: Channel) -> str:
    return channel.name if channel.name == channel.kind else f"{channel.name} ({channel.kind})"


def _schedule(scenario: Scenario) -> str:
    schedule = scenario.schedule
    if schedule.cron:
        return f"{schedule.cron} {schedule.time_zone}"
    return f"every {format_duration(schedule.every)}" if schedule.every else ""


def _origin(settings: Settings | None) -> str:
    if settings is None:
        return "No configuration here: prober run uses the embedded sandbox."
    if not settings.channels:
        return f"{settings.source} configures no channels."
    return f"The channels are those of {settings.source}."
