"""How fast a pushed message is on record: ``python -m tests.bench.chat [--rate 5] [--count 300]
[--folder FOLDER]``.

Probes on Slack and Discord of the sandbox, which runs as a process of its own; a real ledger file on disk. From the
instant just before each message became visible there, as the sandbox's truth tells it, to the instant at which the
transaction that records its sighting was durable here; beside it what the disk under the ledger takes for a bare
write of a page and fsync, below which nothing can come. Fails where p99 is above 10 ms, or a message was not pushed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from prober.assembly import drafting, open_flow
from prober.clock import Instant, SystemClock
from prober.config import settings_from_mapping
from prober.draft import draft_probe
from prober.ledger import observing
from prober.ledger.ledger import Ledger
from prober.loops import Loops
from prober.model import How
from prober.sandbox.launch import start_sandbox
from prober.statistics import quantile
from tests.real.place import alert

CHANNELS = ("slack", "discord")
TO_REACH = 0.010
PATIENCE = 60.0


class NotingLedger(Ledger):
    """A ledger that notes when each message was durably on record, and how it was seen first."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.recorded: dict[tuple[str, str], tuple[Instant, Instant, How]] = {}
        self.changed = asyncio.Event()

    async def write(self, act: Any, *args: Any, **kwargs: Any) -> Any:
        result = await super().write(act, *args, **kwargs)
        if act is observing.record:
            at = SystemClock().now()
            for noticed in args[1].noticed:
                message = noticed.message
                self.recorded.setdefault((message.channel, message.id), (message.seen, at, message.how))
            self.changed.set()
        return result


async def measure(rate: float, count: int, place: str | None) -> bool:
    """Launch ``count`` probes, ``rate`` a second; print what each channel's pushes took; whether all is as it must."""
    clock = SystemClock()

    async def ignore(*_: object) -> None:
        return None

    with tempfile.TemporaryDirectory(dir=place) as folder:
        async with AsyncExitStack() as stack:
            sandbox = await stack.enter_async_context(start_sandbox())
            settings = settings_from_mapping(sandbox.configuration, "the sandbox's configuration")
            ledger = await stack.enter_async_context(NotingLedger(str(Path(folder) / "ledger.sqlite")))
            flow = await open_flow(stack, settings, ledger, clock)
            loops = await stack.enter_async_context(Loops(flow, on_settled=ignore, on_change=ignore))
            await loops.sighted(PATIENCE)
            await asyncio.sleep(1)  # pushes flow from now on
            begun = clock.now()
            chosen = tuple(settings.channels[name] for name in CHANNELS)
            for number in range(count):
                await clock.sleep(begun.plus(number / rate).since(clock.now()))
                now = clock.now()
                draft = draft_probe(
                    drafting(settings), alert(), chosen, slot=now.wall, now=now, run="bench", number=number
                )
                await loops.launch([draft])
            async with asyncio.timeout(PATIENCE):
                while len(ledger.recorded) < count * len(CHANNELS):
                    ledger.changed.clear()
                    await ledger.changed.wait()
            control = await stack.enter_async_context(sandbox.control())
            truth = await control.truth()
        print(f"a bare fsync, ms: {_figures(fsyncs(Path(folder) / 'page'))}")
    took: dict[str, list[float]] = {name: [] for name in CHANNELS}
    seen: dict[str, list[float]] = {name: [] for name in CHANNELS}
    pushed = 0
    for arrival in truth:
        known = ledger.recorded.get((arrival.channel, arrival.visible.message_id))
        if known is not None:
            seen[arrival.channel].append(known[0].since(arrival.visible.before))
            took[arrival.channel].append(known[1].since(arrival.visible.before))
            pushed += known[2] is How.PUSH
    return _told(seen, took, count, pushed)


def _told(seen: dict[str, list[float]], took: dict[str, list[float]], count: int, pushed: int) -> bool:
    print(f"{count} probes; {pushed} of {count * len(CHANNELS)} messages were seen by push; "
          f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    good = pushed == count * len(CHANNELS)
    for name, seconds in took.items():
        for what, each in (("in hand", seen[name]), ("on record", seconds)):
            print(f"{name:8} visible → {what:9}, ms: {_figures(each)}")
        good = good and len(seconds) == count and quantile(seconds, 0.99) <= TO_REACH
    print(f"to reach: p99 ≤ {1000 * TO_REACH:g} ms: {'reached' if good else 'missed'}")
    return good


def _figures(seconds: list[float]) -> str:
    quantiles = ", ".join(f"p{100 * q:g} {1000 * quantile(seconds, q):.1f}" for q in (0.5, 0.9, 0.99))
    return f"{quantiles}, max {1000 * max(seconds):.1f} (of {len(seconds)})"


def fsyncs(path: Path) -> list[float]:
    """Seconds that each of 200 durable writes of one page takes on this disk, alone."""
    took = []
    with path.open("wb") as file:
        for _ in range(200):
            file.write(b"\0" * 4096)
            file.flush()
            begun = time.perf_counter()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - begun)
    return took


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=5.0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--folder", help="where the ledger lies, e.g. on a disk of its own")
    options = parser.parse_args()
    raise SystemExit(not asyncio.run(measure(options.rate, options.count, options.folder)))
