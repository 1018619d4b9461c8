"""``prober rules``: Prometheus rules from the objectives."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from prober.cli.options import load_for
from prober.errors import ConfigurationError
from prober.objectives import DEFAULT_OBJECTIVES
from prober.resources import contents_directory, scenarios_directory
from prober.rules import rule_groups
from prober.scenario_files import load_scenarios


def rules_command(write: str | None, runbooks: str, config: str | None, scenarios: str | None) -> None:
    """Write the rules to stdout or a file. Raises ConfigurationError."""
    settings = load_for(config)
    known = load_scenarios(Path(scenarios) if scenarios else scenarios_directory(), contents_directory())
    objectives = settings.objectives if settings is not None else DEFAULT_OBJECTIVES
    groups = rule_groups(objectives, known.values(), runbooks)
    text = "# Written by `prober rules`: write it anew after a change of objectives or scenarios.\n" + yaml.safe_dump(
        groups, sort_keys=False, width=1000
    )
    if write is None:
        sys.stdout.write(text)
        return
    try:
        Path(write).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", "name another", write,
                                 field="--write") from error  # fmt: skip
