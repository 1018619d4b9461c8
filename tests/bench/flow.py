"""How much one process carries: ``python -m tests.bench.flow [--rate 100] [--seconds 20] [--hold SECONDS]``.

Probes with three channels on the in-process world, the real clock, a real ledger file on disk. ``--hold`` delays every
message so that many deliveries are in flight at once. Prints figures; asserts only that every verdict is right.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import structlog
from sqlalchemy import Connection, func, select

from prober.clock import SystemClock
from prober.draft import Drafting, draft_probe
from prober.ledger.ledger import Ledger
from prober.ledger.tables import deliveries, instant_of, steps
from prober.loops import Loops
from prober.sandbox.inprocess import InProcessWorld, WorldObserver, WorldTarget
from prober.sandbox.weather import parse_weather
from prober.stages import Flow, Watch
from prober.statistics import quantile
from tests.flow.rig import ALERT, KEYRING, LOCATION, SCENARIO

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


async def measure(rate: float, seconds: float, hold: float) -> None:
    """Launch ``rate`` probes a second for ``seconds``, wait until all is settled, print what it took."""
    clock = SystemClock()
    late = f"{{latency: {max(hold, 0.02)}s}}"
    weather = parse_weather(f"channels: {{email: {late}, slack: {late}, discord: {late}}}")
    world = InProcessWorld(clock, weather, contents=[ALERT])
    channels = world.channels()
    with tempfile.TemporaryDirectory() as folder:
        async with world, Ledger(str(Path(folder) / "ledger.sqlite")) as ledger:
            chosen = {name: replace(channels[name], observer=name) for name in SCENARIO.channels}
            observers = [WorldObserver(name, world, (channel,)) for name, channel in chosen.items()]
            watches = tuple(Watch(each, {each.name: chosen[each.name]}) for each in observers)
            flow = Flow(ledger, WorldTarget(world), watches, clock, KEYRING, LOCATION, "bench/0/0")
            drafting = Drafting("test", LOCATION, KEYRING, world.world.templates)
            done = asyncio.Event()

            async def settled(_rows: object) -> None:
                done.set()

            async def ignore() -> None:
                return None

            async with AsyncExitStack() as stack:
                for each in observers:
                    await stack.enter_async_context(each)
                loops = await stack.enter_async_context(Loops(flow, on_settled=settled, on_change=ignore))
                await loops.sighted(10)
                cpu, wall = time.process_time(), time.monotonic()
                number = 0
                while (due := wall + number / rate) < wall + seconds:
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                    now = clock.now()
                    draft = draft_probe(drafting, SCENARIO, tuple(chosen.values()), slot=now.wall, now=now, run="bench",
                                        number=number)  # fmt: skip
                    await loops.launch([draft])
                    number += 1
                while await ledger.read(_open):
                    done.clear()
                    await asyncio.wait({asyncio.ensure_future(done.wait())}, timeout=1)
                cpu, wall = time.process_time() - cpu, time.monotonic() - wall
            verdicts, delays = await ledger.read(_verdicts), await ledger.read(_start_delays)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{number} probes, {3 * number} deliveries in {wall:.1f} s at {rate:g}/s; {verdicts}")
    print(f"CPU per probe {1000 * cpu / number:.2f} ms, start delay p50 {1000 * quantile(delays, 0.5):.1f} ms, "
          f"p99 {1000 * quantile(delays, 0.99):.1f} ms, memory {memory:.0f} MB")  # fmt: skip
    if verdicts != {("on_time", "delivered"): 3 * number}:
        raise SystemExit("not every verdict is right")


def _open(conn: Connection) -> int:
    return conn.execute(select(func.count()).where(deliveries.c.open == 1)).scalar_one()


def _verdicts(conn: Connection) -> dict[tuple[str, str], int]:
    rows = conn.execute(
        select(deliveries.c.timeliness, deliveries.c.outcome, func.count()).group_by(
            deliveries.c.timeliness, deliveries.c.outcome
        )
    ).all()
    return {(timeliness, outcome): count for timeliness, outcome, count in rows}


def _start_delays(conn: Connection) -> list[float]:
    found = []
    for row in conn.execute(select(steps)).all():
        due, requested = instant_of(row, "due"), instant_of(row, "requested")
        if due is not None and requested is not None:
            found.append(requested.since(due))
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--hold", type=float, default=0.0)
    options = parser.parse_args()
    asyncio.run(measure(options.rate, options.seconds, options.hold))
