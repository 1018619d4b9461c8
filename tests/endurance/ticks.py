"""Passes of ``prober tick`` that overlap, linger and do not, on one ledger, held against the sandbox's truth.

``tests/soak --tick --minutes N [--seed S]`` starts one every few seconds in random weather, lets the last ones settle
everything in fair weather, prints a table, and exits 1 when the ledger and the truth disagree anywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Connection, select

from prober.clock import SystemClock
from prober.config import dump_configuration
from prober.ledger.opening import open_for_reading
from prober.ledger.tables import deliveries, observers, steps
from prober.sandbox.launch import SandboxProcess, start_sandbox
from prober.sandbox.remote import SandboxControl
from tests.cli.console import Console, Ended
from tests.endurance.comparison import Comparison, Truth, compare
from tests.endurance.weather import clocks, fair, random_weather
from tests.flow.rig import conserved

SCENARIO = """
name: ticked
description: An alert every two seconds.
publication: {kind: alert, priority: critical, content: alert}
channels: [email, slack, discord]
within: 4s
give_up: 12s
schedule: {every: 2s}
"""

LINGERS: tuple[tuple[str, ...], ...] = ((), ("--linger", "0"), (), ("--linger", "2s"), ("--linger", "0"))
"""What is typed beside the rest, one after another."""

MOST_LAST = 12
"""Passes in fair weather after which everything must be settled: a horizon is 12 s away, and a blind channel's grace
72 s."""

PATIENCE = 120.0
"""Seconds that one pass may take on a machine that is busy with something else."""


@dataclass(slots=True)
class Passes:
    """What came of all passes. ``complaints`` are theirs, and about their outputs."""

    ends: list[dict[str, Any]] = field(default_factory=list)
    codes: Counter[int] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    comparison: Comparison = field(default_factory=Comparison)
    double_takes: int = 0

    @property
    def good(self) -> bool:
        """Whether nothing at all is wrong."""
        return not self.wrong and self.comparison.deliveries > 0

    @property
    def wrong(self) -> list[str]:
        """Everything that is."""
        c = self.comparison
        wrong = [f"wrong verdict: {why}" for why in c.wrong]
        wrong += [f"interval misses the truth: {why}" for why in c.missed]
        wrong += [*c.unexplained, *self.complaints]
        return wrong + ([f"{self.double_takes} steps were taken twice"] if self.double_takes else [])

    def lines(self) -> list[str]:
        """The table, what is wrong, and a line that sums it up."""
        c = self.comparison
        others = sum(not end["observed"] for end in self.ends)
        return [
            *(f"  {count:6}  {timely:10} {outcome}" for (timely, outcome), count in sorted(c.verdicts.items())),
            *self.wrong,
            f"passes {len(self.ends)} (exit codes {dict(self.codes)}), of them {others} beside another's; deliveries "
            f"{c.deliveries}, ambiguous {c.share('ambiguous'):.1%}, wrong {len(self.wrong)}",
        ]


class Cron:
    """Starts ``prober tick`` in a console's folder, on a sandbox."""

    def __init__(self, console: Console, sandbox: SandboxProcess, control: SandboxControl) -> None:
        self._console, self._control = console, control
        (console.folder / "scenarios").mkdir()
        console.write("scenarios/ticked.yaml", SCENARIO)
        console.write("prober.yaml", dump_configuration(dict(sandbox.configuration)))
        self.place = str(console.folder / "ledger.sqlite")
        self.passes = Passes()

    async def run(self, seconds: float, every: float, weather: Random | None = None) -> Passes:
        """A pass every so many seconds, whatever the earlier ones do; then as many as it takes to settle all."""
        clock, running = SystemClock(), []
        ahead = clocks(weather) if weather else {}
        end, number = clock.now().plus(seconds), 0
        while end.since(clock.now()) > 0:
            if weather is not None and number % 5 == 0:
                await self._control.set_weather(random_weather(weather, ahead))
            running.append(asyncio.create_task(self._pass(*LINGERS[number % len(LINGERS)])))
            number += 1
            await clock.sleep(every)
        await asyncio.gather(*running)
        if weather is not None:
            await self._control.set_weather(fair(ahead))
        for _ in range(MOST_LAST):
            if not (await self._pass("--linger", "10s"))["open"]:
                break
        await self._compare()
        return self.passes

    async def _pass(self, *more: str) -> dict[str, Any]:
        ended = await self._console.run(
            "tick", "--config", "prober.yaml", "--ledger", self.place, "--scenarios", "scenarios", "--output", "json",
            *more, within=PATIENCE,
        )  # fmt: skip
        self.passes.codes[ended.code] += 1
        return self._told(ended)

    def _told(self, ended: Ended) -> dict[str, Any]:
        if ended.code not in {0, 4}:
            self.passes.complaints.append(f"a pass ended with {ended.code}: {ended.err}")
            return {"open": 1}
        told: dict[str, Any] = json.loads(ended.out)
        self.passes.ends.append(told)
        if "Traceback" in ended.err:
            self.passes.complaints.append(ended.err)
        return told

    async def _compare(self) -> None:
        truth = Truth.of(await self._control.publications(), await self._control.truth())
        engine = open_for_reading(self.place)
        try:
            with engine.connect() as conn, conn.begin():
                self._compare_rows(conn, truth)
        finally:
            engine.dispose()

    def _compare_rows(self, conn: Connection, truth: Truth) -> None:
        rows = conn.execute(select(deliveries).order_by(deliveries.c.id)).all()
        blind = {row.name: row.blind_reason for row in conn.execute(select(observers)).all()}
        self.passes.comparison = compare(rows, conn.execute(select(steps)).all(), blind, truth)
        self.passes.double_takes = truth.double_takes
        if not conserved(conn):
            self.passes.complaints.append("expected deliveries are not settled + open, or the totals do not agree")
        for told, word in ((self._sum("timeliness"), "timeliness"), (self._sum("outcome"), "outcome")):
            held = Counter(getattr(row, word) for row in rows if getattr(row, word) is not None)
            if told != held:
                self.passes.complaints.append(f"the passes told of {dict(told)}, on record are {dict(held)}")

    def _sum(self, word: str) -> Counter[str]:
        found: Counter[str] = Counter()
        for end in self.passes.ends:
            found.update(end[word])
        return found


async def soak(minutes: float, seed: int, folder: Path) -> Passes:
    """Minutes of it on a sandbox of its own."""
    console = Console(folder / "work")
    console.folder.mkdir()
    console.home.mkdir()
    async with start_sandbox() as sandbox, sandbox.control() as control:
        return await Cron(console, sandbox, control).run(minutes * 60, 3.0, Random(seed))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 when nothing is wrong, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="tests/soak", description=__doc__)
    parser.add_argument("--tick", action="store_true", required=True)
    parser.add_argument("--minutes", type=float, default=5.0, help="about how long (default 5)")
    parser.add_argument("--seed", type=int, default=1, help="of the weather (default 1)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ticks-") as folder:
        passes = asyncio.run(soak(options.minutes, options.seed, Path(folder)))
    sys.stdout.write("\n".join([f"seed {options.seed}", *passes.lines()]) + "\n")
    return 0 if passes.good else 1
