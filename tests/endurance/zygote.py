"""A parent that has everything imported and forks one prober per order: ``zygote.py CONFIG LEDGER``.

Orders come as JSON lines on standard input, what happens goes as JSON lines to standard output: ``born``, ``sighted``,
``ended``, ``refused`` (the ledger could not be used), ``failed``. The probers die with it.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import structlog

from prober.ad_hoc import AdHocRun, Asked, with_bounds
from prober.assembly import drafting, load_adapters, open_flow
from prober.channel_choice import resolve_channels
from prober.clock import SystemClock, wait_for_any
from prober.config import Settings, load_settings
from prober.errors import LedgerError
from prober.ledger import reading
from prober.ledger.ledger import Ledger
from prober.ledger.planning import PlannedProbe
from prober.ledger.reading import ProbeRecord
from prober.loops import Loops
from prober.model import Scenario
from prober.resources import contents_directory, scenarios_directory
from prober.scenario_files import load_scenarios
from prober.stages import Flow
from prober.sweep import Swept

WITHIN, GIVE_UP = 2.0, 6.0
SIGHT = 30.0
_PR_SET_PDEATHSIG = 1
_MOST_WORDS = 3000


def say(life: int, said: str, **more: object) -> None:
    """One line, written at once and whole: the pipe is shared by all lives."""
    os.write(1, json.dumps({"life": life, "said": said, **more}).encode() + b"\n")


class Told:
    """The listener of a life that nobody watches."""

    def launched(self, probes: Sequence[PlannedProbe]) -> None:
        """See :class:`prober.ad_hoc.Listener`."""

    def changed(self, record: ProbeRecord) -> None:
        """See :class:`prober.ad_hoc.Listener`."""

    def blind(self, observer: str, why: str) -> None:
        """See :class:`prober.ad_hoc.Listener`."""

    def swept(self, swept: Swept) -> None:
        """Not asked about."""

    def held_up(self, seconds: float) -> None:
        """See :class:`prober.ad_hoc.Listener`."""


async def launch(flow: Flow, settings: Settings, scenarios: Mapping[str, Scenario], order: Mapping[str, Any]) -> None:
    """Launch probes at a steady rate until killed."""
    chosen = [with_bounds(scenarios[name], WITHIN, GIVE_UP) for name in order["scenarios"]]
    asked = [Asked(scenario, resolve_channels(scenario, settings.channels)) for scenario in chosen]
    run = AdHocRun(flow, drafting(settings), asked, Told(), count=order["count"], every=order["every"])
    await run.run(asyncio.Event())


async def resolve(flow: Flow, number: int, bound: float) -> None:
    """Launch nothing; observe until nothing on the ledger is open, at the latest after ``bound`` seconds."""
    changed = asyncio.Event()

    async def settled(_rows: object) -> None:
        changed.set()

    async def ignore() -> None:
        return None

    end = flow.clock.now().plus(bound)
    async with Loops(flow, on_settled=settled, on_change=ignore) as loops:
        await loops.sighted(SIGHT)
        say(number, "sighted")
        while await flow.ledger.read(reading.open_probes, flow.location):
            left = end.since(flow.clock.now())
            if left <= 0:
                return
            changed.clear()
            await wait_for_any(flow.clock, changed, min(1.0, left))


async def live(settings: Settings, scenarios: Mapping[str, Scenario], ledger: str, order: Mapping[str, Any]) -> None:
    """One life of a prober."""
    async with AsyncExitStack() as stack:
        book = await stack.enter_async_context(Ledger(ledger))
        flow = await open_flow(stack, settings, book, SystemClock())
        if order.get("resolve"):
            await resolve(flow, order["life"], float(order["resolve"]))
        else:
            await launch(flow, settings, scenarios, order)


def child(settings: Settings, scenarios: Mapping[str, Scenario], ledger: str, order: Mapping[str, Any]) -> None:
    """Become a prober: a loop and threads of its own, and death with the parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    structlog.contextvars.bind_contextvars(life=order["life"])
    try:
        asyncio.run(live(settings, scenarios, ledger, order))
        say(order["life"], "ended")
    except LedgerError as error:
        say(order["life"], "refused", reason=f"{type(error).__name__}: {error}")
    except BaseException:  # noqa: BLE001 - it is told, and fails the soak
        say(order["life"], "failed", reason=traceback.format_exc()[-_MOST_WORDS:])


def main(config: str, ledger: str) -> None:
    """Read orders until standard input ends."""
    load_adapters(None)
    import_module("alembic.command")  # the ledger's first opening would load it
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    settings = load_settings(Path(config))
    scenarios = load_scenarios(scenarios_directory(), contents_directory())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the ended ones are buried at once
    gc.freeze()
    say(0, "born", pid=os.getpid())
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(settings, scenarios, ledger, order)
            os._exit(0)
        say(order["life"], "born", pid=pid)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
