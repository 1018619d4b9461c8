"""The configured target, or with ``--sandbox`` the embedded one: for commands that never choose it by themselves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from prober.cli.options import load_for, target_name
from prober.config import Settings, default_ledger_path, searched_paths, settings_from_mapping
from prober.errors import ConfigurationError
from prober.report.values import TargetName


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a command works on; ``ledger`` is '' where it is thrown away."""

    settings: Settings
    target: TargetName
    ledger: str


@asynccontextmanager
async def deployment(
    config: str | None, ledger: str | None, *, sandbox: bool, weather: str | None = None, read_only: bool = False
) -> AsyncIterator[Deployment]:
    """The deployment, and the embedded sandbox while it is used; who is ``read_only`` needs no target.

    Raises ConfigurationError, SandboxError.
    """
    if sandbox or weather is not None:
        from prober.sandbox.launch import start_sandbox

        async with start_sandbox(weather) as started:
            settings = settings_from_mapping(started.configuration, "the sandbox's configuration")
            yield Deployment(settings, TargetName("sandbox", sandbox=True), ledger or "")
        return
    configured = load_for(config)
    if configured is None or (configured.target is None and not read_only):
        raise _no_target(config, configured)
    place = ledger or configured.ledger or str(default_ledger_path(os.environ))
    yield Deployment(configured, target_name(configured), place)


def _no_target(config: str | None, configured: Settings | None) -> ConfigurationError:
    if configured is not None:
        mend = "add target, or try it with --sandbox"
        return ConfigurationError("no target is configured", mend, configured.source, field="target")
    paths = " or ".join(str(path) for path in searched_paths(config, os.environ, Path.cwd()))
    return ConfigurationError(f"no configuration in {paths}", "write one, name it with --config, or try --sandbox")
