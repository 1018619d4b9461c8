"""``prober check``: is everything there that a run needs? One line each, with the mend."""

from __future__ import annotations

import asyncio
import sys

from prober.cli.deployment import deployment
from prober.cli.live import is_screen
from prober.cli.options import one_of
from prober.clock import SystemClock
from prober.findings import Examined, verdict
from prober.report.checklist import EXIT_CODES, checklist_lines, checklist_to_json
from prober.report.lines import write
from prober.report.values import TargetName, json_text


def check_command(
    output: str, config: str | None, ledger: str | None, *, sandbox: bool, weather: str | None, post: bool
) -> int:
    """Write the findings to stdout, return the exit code. Raises ConfigurationError, SandboxError."""
    one_of("--output", output, ("text", "json"))
    if weather is not None:
        from prober.sandbox.weather import load_weather

        load_weather(weather)  # a wrong file is said before anything starts
    target, examined = asyncio.run(_examined(config, ledger, sandbox=sandbox, weather=weather, post=post))
    if output == "json":
        sys.stdout.write(json_text(checklist_to_json(examined, target)) + "\n")
    else:
        write(checklist_lines(examined), sys.stdout, colour=is_screen(sys.stdout))
    return EXIT_CODES[verdict(examined)]


async def _examined(
    config: str | None, ledger: str | None, *, sandbox: bool, weather: str | None, post: bool
) -> tuple[TargetName, tuple[Examined, ...]]:
    from prober.examination import Scope, examine_all

    async with deployment(config, ledger, sandbox=sandbox, weather=weather) as found:
        return found.target, await examine_all(Scope(found.settings, found.ledger, post=post), SystemClock())
