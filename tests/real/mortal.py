"""A prober that ends itself, as kill -9 would, at one commit boundary: ``mortal.py CONFIG LEDGER PHASE JOB NTH``.

The n-th transaction in which ``JOB`` takes part is counted from the moment at which the probe is on record.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from prober.ad_hoc import AdHocRun, Asked
from prober.assembly import drafting, open_flow
from prober.channel_choice import resolve_channels
from prober.cli.live import PlainView
from prober.cli.run import ViewListener
from prober.clock import SystemClock
from prober.config import load_settings
from prober.ledger.ledger import Ledger
from prober.resources import contents_directory, scenarios_directory
from prober.scenario_files import load_scenarios


async def live(config: str, ledger: str, phase: str, job: str, nth: int) -> None:
    """Run one probe of alert-latency, and die at the boundary if it comes."""
    planned, met = False, 0

    def boundary(reached: str, names: tuple[str, ...]) -> None:
        nonlocal planned, met
        if (planned or job == "plan_probes") and reached == phase and job in names:
            met += 1
            if met == nth:
                os.kill(os.getpid(), signal.SIGKILL)
        planned = planned or (reached == "after" and "plan_probes" in names)

    settings = load_settings(Path(config))
    scenario = load_scenarios(scenarios_directory(), contents_directory())["alert-latency"]
    async with AsyncExitStack() as stack:
        book = await stack.enter_async_context(Ledger(ledger, boundary))
        flow = await open_flow(stack, settings, book, SystemClock())
        asked = [Asked(scenario, resolve_channels(scenario, settings.channels))]
        listener = ViewListener(PlainView(sys.stderr))
        await AdHocRun(flow, drafting(settings), asked, listener).run(asyncio.Event(), 20)


if __name__ == "__main__":
    asyncio.run(live(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])))
