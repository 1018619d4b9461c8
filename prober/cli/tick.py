"""``prober tick``: one bounded pass of every stage, for cron."""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prober.cli.deployment import deployment
from prober.cli.options import duration_option, one_of
from prober.cli.recurring import loaded_from
from prober.cli.service_logs import log_to_stderr
from prober.clock import Clock, SystemClock
from prober.errors import ConfigurationError, LedgerBusy
from prober.ledger.ledger import Ledger
from prober.ledger.lock import ObservingLock
from prober.metrics import Local
from prober.report.lines import printable
from prober.report.swept import swept_line, swept_values
from prober.report.values import TargetName, json_text
from prober.serve_form import textfile_of
from prober.serving import Loaded, counts_of, export, metrics_of, standings_of
from prober.ticking import Tick, Ticked

UNREADABLE, BUSY, INTERRUPTED = 4, 75, 130


@dataclass(frozen=True, slots=True)
class TickOptions:
    """What was typed."""

    names: tuple[str, ...]
    linger: str | None
    output: str
    sandbox: bool
    weather: str | None
    ledger: str | None
    config: str | None
    scenarios: str | None

    @property
    def embedded(self) -> bool:
        return self.sandbox or self.weather is not None


def tick_command(options: TickOptions) -> int:
    """Do one pass, write what it came to to stdout, return the exit code. Raises ProberError."""
    one_of("--output", options.output, ("text", "json"))
    linger = _linger(options)
    log_to_stderr(console=sys.stderr.isatty(), least=logging.WARNING)  # cron writes a mail of every line
    try:
        target, ticked = asyncio.run(_tick(options, linger))
    except LedgerBusy as error:
        sys.stderr.write(f"prober: nothing could be done: {error}\n")
        return BUSY
    if options.output == "json":
        sys.stdout.write(json_text(values(target, ticked)) + "\n")
    else:
        sys.stdout.write(sentences(ticked) + "\n")
    if ticked.interrupted:
        return INTERRUPTED
    return 0 if ticked.readable else UNREADABLE


def _linger(options: TickOptions) -> float | None:
    """Seconds; None: as long as the deadlines ask for."""
    none = options.linger is not None and options.linger.strip() in {"0", "0s"}
    if none and options.embedded:
        problem = "a sandbox of this tick's own is gone before a later one could collect"
        mend = "leave --linger out, or start `prober sandbox --write prober.yaml` and name it with --config"
        raise ConfigurationError(problem, mend, field="--linger")
    if none:
        return 0.0
    if options.linger is None:
        return math.inf if options.embedded else None
    return duration_option("--linger", options.linger)


async def _tick(options: TickOptions, linger: float | None) -> tuple[TargetName, Ticked]:
    from prober.assembly import open_flow
    from prober.timetables import timetable

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        found = await stack.enter_async_context(
            deployment(options.config, options.ledger, sandbox=options.sandbox, weather=options.weather)
        )
        settings = found.settings
        loaded = loaded_from(settings, textfile_of(settings.serve), options.names, options.scenarios)
        place = found.ledger or str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "ledger.sqlite")
        ledger = await stack.enter_async_context(Ledger(place))
        flow = await open_flow(stack, settings, ledger, clock, short_lived=True)
        recurring = timetable(settings, loaded.scenarios, loaded.channels, clock, newest_only=True)
        lock = ObservingLock(place, settings.location)
        textfile = _textfile(loaded, ledger, clock) if loaded.serve.textfile else None
        return found.target, await Tick(flow, recurring, lock, linger=linger, export=textfile).run(stop)


def _textfile(loaded: Loaded, ledger: Ledger, clock: Clock) -> Callable[[Local], Awaitable[None]]:
    """Writes the metrics for node_exporter. What it returns raises OSError and LedgerError."""

    async def write(local: Local) -> None:
        standings = standings_of(loaded, await counts_of(loaded, ledger, clock))
        await export(await metrics_of(loaded, ledger, clock, standings, local), loaded.serve.textfile)

    return write


def sentences(ticked: Ticked) -> str:
    """What the pass came to, for a log of cron's."""
    timeliness = ticked.verdicts.timeliness
    share = ticked.verdicts.ambiguous
    ambiguous = "" if share is None else f" ({share:.1%} ambiguous)"
    who = "" if ticked.observed else "Another tick observes, and collects."
    words = [
        f"Slots: {_counted(ticked.slots)}.",
        f"Published: {_counted(ticked.published)}.",
        f"Timeliness: {_counted(timeliness)}{ambiguous}; outcome: {_counted(ticked.verdicts.outcome)}.",
        f"Still open: {ticked.left}.",
        who,
        *(f"Blind: {name} ({printable(why)})." for name, why in sorted(ticked.blind.items())),
        swept_line(ticked.swept) or "",
        f"Took {ticked.seconds:.1f} s.",
    ]
    return " ".join(word for word in words if word)


def _counted(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()) if number) or "none"


def values(target: TargetName, ticked: Ticked) -> dict[str, Any]:
    """The same for a program."""
    return {
        "version": 1,
        "target": {"name": target.name, "sandbox": target.sandbox},
        "observed": ticked.observed,
        "interrupted": ticked.interrupted,
        "slots": {state.value: number for state, number in sorted(ticked.slots.items())},
        "published": dict(sorted(ticked.published.items())),
        "timeliness": dict(sorted(ticked.verdicts.timeliness.items())),
        "outcome": dict(sorted(ticked.verdicts.outcome.items())),
        "ambiguous_share": ticked.verdicts.ambiguous,
        "open": ticked.left,
        "read": sorted(ticked.read),
        "blind": dict(sorted(ticked.blind.items())),
        "swept": swept_values(ticked.swept, complete=not ticked.swept.busy, dry_run=False),
        "seconds": round(ticked.seconds, 3),
    }
