"""``prober sweep``: remove what has served, until nothing is left to do."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from prober import stages, sweep
from prober.cli.logs import send_logs_to
from prober.cli.options import duration_option, load_for, one_of
from prober.clock import SystemClock
from prober.config import Settings, default_ledger_path, searched_paths
from prober.errors import ConfigurationError, Unreadable
from prober.ledger.ledger import Ledger
from prober.ledger.observing import CursorMoved
from prober.ledger.owner import claim_ledger
from prober.report.swept import swept_line, swept_values
from prober.report.values import json_text
from prober.stages import Flow
from prober.sweep import Course, Swept

UNFINISHED, UNREACHABLE = 3, 4


def sweep_command(output: str, ledger: str | None, config: str | None, *, max_time: str | None, dry_run: bool) -> int:
    """Sweep, write what was done to stdout, return the exit code. Raises ProberError."""
    one_of("--output", output, ("text", "json"))
    seconds = duration_option("--max-time", max_time)
    settings = load_for(config)
    if settings is None or settings.target is None:
        paths = " or ".join(str(path) for path in searched_paths(config, os.environ, Path.cwd()))
        raise ConfigurationError(f"no target is configured in {paths}", "give --config", field="--config")
    place = ledger or settings.ledger or str(default_ledger_path(os.environ))
    with send_logs_to(_to_stderr):
        swept, complete = asyncio.run(_sweep(settings, place, seconds, dry_run=dry_run))
    if output == "json":
        sys.stdout.write(json_text(swept_values(swept, complete=complete, dry_run=dry_run)) + "\n")
    elif dry_run:
        sys.stdout.write(_told_dry(swept))
    else:
        sys.stdout.write((swept_line(swept) or "Nothing to remove.") + "\n")
    if swept.trouble:
        return UNREACHABLE
    return 0 if complete else UNFINISHED


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


async def _sweep(settings: Settings, place: str, seconds: float | None, *, dry_run: bool) -> tuple[Swept, bool]:
    from prober.assembly import open_flow

    async with AsyncExitStack() as stack:
        book = await stack.enter_async_context(Ledger(place))
        await book.write(claim_ledger, settings.environment)
        flow = await open_flow(stack, settings, book, SystemClock(), short_lived=True)
        course = Course(flow.upkeep.keeping)
        if dry_run:
            return course.swept, await sweep.within(flow, sweep.rehearse(flow, course), seconds)
        return course.swept, await sweep.within(flow, _read_and_sweep(flow, course), seconds)


async def _read_and_sweep(flow: Flow, course: Course) -> None:
    await _read(flow, course)
    await sweep.sweep_up(flow, course, None)


async def _read(flow: Flow, course: Course) -> None:
    """Read once, so that no later read rests on what is removed now."""
    for watch in flow.watches:
        try:
            await stages.observe(flow, watch)
        except Unreadable as error:
            course.swept.trouble[watch.observer.name] = str(error)
        except CursorMoved:
            pass  # another process reads, which serves as well
    await stages.settle(flow)


def _told_dry(swept: Swept) -> str:
    lines = [f"{number} would go: {what}" for what, number in sorted(swept.wanted.items())] or ["Nothing would go."]
    lines += [f"{name} cannot be looked at: {why}" for name, why in sorted(swept.trouble.items())]
    return "\n".join(lines) + "\n"
