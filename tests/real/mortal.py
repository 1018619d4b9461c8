"""A prober that ends itself, as kill -9 would, at one commit boundary.

``mortal.py CONFIG LEDGER PHASE JOB NTH [COUNT WITHIN GIVE_UP]``: the n-th time that ``JOB`` takes part in a
transaction is counted from the moment at which the probes, COUNT of them at once, are on record. :func:`mortal` does
the same in a process forked from one that has everything loaded: most of such a short life is its start.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from prober.ad_hoc import AdHocRun, Asked, with_bounds
from prober.assembly import drafting, open_flow
from prober.channel_choice import resolve_channels
from prober.cli.live import PlainView
from prober.cli.run import ViewListener
from prober.clock import SystemClock
from prober.config import load_settings
from prober.ledger.ledger import Ledger
from prober.resources import contents_directory, scenarios_directory
from prober.scenario_files import load_scenarios

SWEEP = {"plan_clean_ups", "end_clean_ups"}
"""The transactions of a run that sweeps at its end; so does one in which nothing dies and the phase is ``swept``."""


ADAPTERS = [
    "prober.targets.publishing_module",
    "prober.observers.imap",
    "prober.observers.slack",
    "prober.observers.discord",
]
"""What assembly loads when it is needed."""


@dataclass(frozen=True)
class Death:
    """Before or after the commit in which ``job`` takes part for the n-th time."""

    phase: str
    job: str
    nth: int


@dataclass(frozen=True)
class Load:
    """How many probes, and their bounds in seconds (None: the scenario's)."""

    count: int = 1
    within: float | None = None
    give_up: float | None = None


async def live(config: str, ledger: str, death: Death, load: Load) -> None:
    """Run probes of alert-latency, and die at the boundary if it comes."""
    planned, met = False, 0

    def boundary(reached: str, names: tuple[str, ...]) -> None:
        nonlocal planned, met
        if (planned or death.job == "plan_probes") and reached == death.phase and death.job in names:
            met += names.count(death.job)
            if met >= death.nth:
                os.kill(os.getpid(), signal.SIGKILL)
        planned = planned or (reached == "after" and "plan_probes" in names)

    settings = load_settings(Path(config))
    scenario = load_scenarios(scenarios_directory(), contents_directory())["alert-latency"]
    async with AsyncExitStack() as stack:
        book = await stack.enter_async_context(Ledger(ledger, boundary))
        flow = await open_flow(stack, settings, book, SystemClock())
        bounded = with_bounds(scenario, load.within, load.give_up)
        channels = resolve_channels(scenario, settings.channels)
        # Under a name of its own each is another probe of the same launch.
        names = [scenario.name, *(f"{scenario.name}-{number}" for number in range(1, load.count))]
        asked = [Asked(replace(bounded, name=name), channels) for name in names]
        listener = ViewListener(PlainView(sys.stderr))
        sweeping = death.job in SWEEP or death.phase == "swept"
        await AdHocRun(flow, drafting(settings), asked, listener, sweeps=sweeping).run(asyncio.Event(), 45)


async def mortal(config: Path, ledger: Path, phase: str, job: str, nth: int) -> int:
    """Run a prober that dies at the boundary; its exit status, negative for a signal."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload([__name__, *ADAPTERS])
    process = forks.Process(target=_live_quietly, args=(str(config), str(ledger), Death(phase, job, nth)), daemon=True)
    await asyncio.to_thread(process.start)
    await asyncio.to_thread(process.join)
    assert process.exitcode is not None
    return process.exitcode


def _live_quietly(config: str, ledger: str, death: Death) -> None:
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stderr = nowhere
        asyncio.run(live(config, ledger, death, Load()))


if __name__ == "__main__":
    given = Load(int(sys.argv[6]), float(sys.argv[7]), float(sys.argv[8])) if len(sys.argv) > 6 else Load()
    asyncio.run(live(sys.argv[1], sys.argv[2], Death(sys.argv[3], sys.argv[4], int(sys.argv[5])), given))
