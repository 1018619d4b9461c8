"""The soak: probers that are killed, stopped, locked out and starved on one ledger, in random weather.

``tests/soak --minutes N [--seed S] [--kills K]`` prints a table and one last line; it exits 1 when the ledger and the
truth disagree anywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Connection, select

from prober.clock import SystemClock
from prober.config import dump_configuration
from prober.errors import LedgerError, SandboxError
from prober.ledger.opening import open_for_reading
from prober.ledger.tables import deliveries, observers, steps
from prober.sandbox.launch import start_sandbox
from prober.sandbox.remote import SandboxControl
from tests.endurance.comparison import Comparison, Truth, compare
from tests.endurance.disk import Filler, small_disk, take_lock
from tests.endurance.lives import Life, Zygote
from tests.endurance.weather import SERVERS, clocks, fair, random_weather
from tests.flow.rig import conserved

TARGET_TIMEOUT = "3s"
LAST_LIFE = 150.0
"""Seconds that the last life may take: a blind channel's grace is 60 s."""

MOST_TOLD = 20
"""Complaints that are printed at the most: a loop that fails again and again says the same."""

MOST_UNDECIDED = 0.5
"""The share of deliveries of which nothing certain may be said."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard. ``stop`` is for how many seconds a prober is stopped."""

    kills: int
    seed: int
    life: float
    stop: float
    hold: float


@dataclass(slots=True)
class Report:
    """What the soak found."""

    plan: Plan
    comparison: Comparison = field(default_factory=Comparison)
    double_takes: int = 0
    restarts: int = 0
    troubles: Counter[str] = field(default_factory=Counter)
    others: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing at all is wrong."""
        c = self.comparison
        return not (c.wrong or c.missed or c.unexplained or self.double_takes or self.others) and c.deliveries > 0

    def lines(self) -> list[str]:
        """The table, everything that is wrong, and the one line that sums it up."""
        c = self.comparison
        rows = [
            f"  {count:6}  {timeliness:10} {outcome}" for (timeliness, outcome), count in sorted(c.verdicts.items())
        ]
        wrong = [f"wrong verdict: {why}" for why in c.wrong]
        wrong += [f"interval misses the truth: {why}" for why in c.missed]
        wrong += [*c.unexplained, *self.others[:MOST_TOLD]]
        return [
            f"seed {self.plan.seed}",
            "publishes: " + _counts(c.results),
            "troubles:  " + _counts(self.troubles),
            "reasons:   " + _counts(c.reasons),
            "verdicts:",
            *rows,
            *(f"void: {what}" for what in c.noted[:MOST_TOLD]),
            *wrong,
            f"deliveries {c.deliveries}, wrong verdicts {len(c.wrong)}, intervals that miss the truth {len(c.missed)}, "
            f"double takes {self.double_takes}, restarts {self.restarts}",
        ]


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


class Soak:
    """One soak over a running sandbox and zygote."""

    def __init__(self, plan: Plan, control: SandboxControl, zygote: Zygote, place: str, filler: Filler) -> None:
        self._plan = plan
        self._control = control
        self._zygote = zygote
        self._place = place
        self._filler = filler
        self._clock = SystemClock()
        self._ahead = clocks(Random(plan.seed))
        self._troubles: Counter[str] = Counter()
        self._settled: dict[int, tuple[str | None, str | None]] = {}
        self._changed: list[str] = []
        self._waiting: set[asyncio.Task[None]] = set()

    async def run(self) -> Report:
        """Trouble and kill, then let a last life settle everything, then compare."""
        await self._control.set_weather(fair(self._ahead))
        troubles = [self._weather(), self._outages(), self._ledger()]
        async with _together(troubles):
            await self._kill_all()
        for server in SERVERS:
            await self._control.outage(server, on=False)
        await self._control.set_weather(fair(self._ahead))
        last = await self._last()
        await last.ended.wait()
        return await self._report(last)

    async def _last(self) -> Life:
        """The life that settles everything; the one before it dies only when this one is at work."""
        rng = Random(f"{self._plan.seed} last")
        former = await self._start(rng)
        await self._clock.sleep(self._plan.life)
        last = await self._zygote.fork(resolve=LAST_LIFE)
        await last.sighted.wait()
        former.send(signal.SIGKILL)
        return last

    async def _kill_all(self) -> None:
        rng = Random(f"{self._plan.seed} lives")
        present: list[Life] = []
        for left in range(self._plan.kills, 0, -1):
            if not present:
                present.append(await self._start(rng))
            await self._clock.sleep(rng.uniform(0.05, 2 * self._plan.life))
            if rng.random() < 0.3 and left > 1:
                self._troubles["two at once"] += 1
                present.append(await self._start(rng))
                await self._clock.sleep(rng.uniform(0.1, self._plan.life))
            await self._end(present.pop(0), stopped_first=rng.random() < 0.1)
            self._snapshot()
        await asyncio.gather(*self._waiting)
        for one in self._zygote.lives:
            await one.ended.wait()

    async def _end(self, life: Life, *, stopped_first: bool) -> None:
        if not stopped_first:
            life.send(signal.SIGKILL)
            return
        self._troubles["stopped"] += 1
        task = asyncio.create_task(self._stop_and_kill(life))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _start(self, rng: Random) -> Life:
        names = ["alert-latency"] if rng.random() < 0.8 else ["alert-latency", "publication-fanout"]
        return await self._zygote.fork(scenarios=names, count=10_000, every=rng.choice((0.15, 0.3, 0.6)))

    async def _stop_and_kill(self, life: Life) -> None:
        """A prober that sleeps through deadlines, wakes beside its successor, and is killed a little later."""
        life.send(signal.SIGSTOP)
        await self._clock.sleep(self._plan.stop)
        life.send(signal.SIGCONT)
        await self._clock.sleep(0.7)
        life.send(signal.SIGKILL)

    # --- trouble ---------------------------------------------------------------------------------------------

    async def _weather(self) -> None:
        rng = Random(f"{self._plan.seed} weather")
        while True:
            await self._control.set_weather(random_weather(rng, self._ahead))
            await self._clock.sleep(rng.uniform(2, 5))

    async def _outages(self) -> None:
        rng = Random(f"{self._plan.seed} outages")
        while True:
            await self._clock.sleep(rng.uniform(1, 4))
            server = rng.choice(SERVERS)
            if rng.random() < 0.4:
                self._troubles["connections dropped"] += 1
                await self._control.drop(server)
                continue
            self._troubles["outages"] += 1
            await self._control.outage(server)
            await self._clock.sleep(rng.uniform(0.5, 4))
            await self._control.outage(server, on=False)

    async def _ledger(self) -> None:
        rng = Random(f"{self._plan.seed} ledger")
        while True:
            await self._clock.sleep(rng.uniform(2, 6))
            if rng.random() < 0.5:
                await self._hold(rng.uniform(0.3, self._plan.hold))
            else:
                await self._fill(rng.uniform(0.3, 3))

    async def _hold(self, seconds: float) -> None:
        held = await asyncio.to_thread(take_lock, self._place)
        if held is None:
            return
        self._troubles["ledger locked"] += 1
        try:
            await self._clock.sleep(seconds)
        finally:
            held.close()

    async def _fill(self, seconds: float) -> None:
        pids = [life.pid for life in self._zygote.lives if not life.ended.is_set()]
        self._troubles["disk full"] += 1
        self._filler.fill(pids)
        try:
            await self._clock.sleep(seconds)
        finally:
            self._filler.free(pids)

    # --- what is on record -----------------------------------------------------------------------------------

    def _snapshot(self) -> None:
        """A verdict that was once read must be read so for ever."""
        try:
            engine = open_for_reading(self._place)
        except LedgerError:
            self._troubles["ledger unreadable"] += 1
            return
        try:
            with engine.connect() as conn, conn.begin():
                rows = conn.execute(
                    select(deliveries.c.id, deliveries.c.probe_id, deliveries.c.timeliness, deliveries.c.outcome)
                ).all()
        finally:
            engine.dispose()
        for row in rows:
            for before, after in zip(self._settled.get(row.id, (None, None)), row[2:], strict=True):
                if before is not None and before != after:
                    self._changed.append(f"a verdict changed: {row.probe_id} had {before}, now {after}")
            self._settled[row.id] = (row.timeliness, row.outcome)

    async def _report(self, last: Life) -> Report:
        self._snapshot()
        truth = Truth.of(await self._control.publications(), await self._control.truth())
        engine = open_for_reading(self._place)
        try:
            with engine.connect() as conn, conn.begin():
                comparison, whole = _compare(conn, truth)
        finally:
            engine.dispose()
        others = [*self._changed, *self._zygote.complaints]
        others += [] if whole else ["expected deliveries are not settled + open, or the totals do not agree"]
        others += [] if last.said == "ended" else [f"the last life ended badly: {last.said} {last.words}"]
        if (share := comparison.share("ambiguous", "void", "None")) > MOST_UNDECIDED:
            others.append(f"of {share:.0%} of the deliveries nothing certain is said")
        for life in self._zygote.lives:
            if life.said == "refused":
                self._troubles[f"start refused by {life.words.partition(':')[0]}"] += 1
        return Report(
            self._plan, comparison, truth.double_takes, len(self._zygote.lives) - 1, self._troubles, others
        )  # fmt: skip


def _compare(conn: Connection, truth: Truth) -> tuple[Comparison, bool]:
    rows = conn.execute(select(deliveries).order_by(deliveries.c.id)).all()
    taken = conn.execute(select(steps)).all()
    blind = {row.name: row.blind_reason for row in conn.execute(select(observers)).all()}
    return compare(rows, taken, blind, truth), conserved(conn)


@contextlib.asynccontextmanager
async def _together(works: Sequence[Coroutine[Any, Any, None]]) -> Any:
    """Let troubles happen beside what is inside; one that ends by itself is broken."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in ended:
            task.result()


async def soak(plan: Plan, folder: Path) -> Report:
    """Run a soak; ``folder`` keeps the configuration, the log and, where no disk could be mounted, the ledger."""
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(start_sandbox())
        configuration = {**sandbox.configuration, "target": {**sandbox.configuration["target"]}}
        configuration["target"]["timeout"] = TARGET_TIMEOUT
        config = folder / "prober.yaml"
        config.write_text(dump_configuration(configuration), encoding="utf-8")
        disk = stack.enter_context(small_disk(folder / "disk"))
        place = str((disk or folder) / "ledger.sqlite")
        control = await stack.enter_async_context(sandbox.control())
        zygote = await stack.enter_async_context(Zygote(config, place, folder / "log"))
        return await Soak(plan, control, zygote, place, Filler(disk)).run()


def plan_of(arguments: Sequence[str] | None = None) -> Plan:
    """The command line as a plan: the long form stops for a minute and holds the lock beyond the prober's patience."""
    parser = argparse.ArgumentParser(prog="tests/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.5, help="about how long to kill (default 1.5)")
    parser.add_argument("--seed", type=int, default=1, help="of the weather, the troubles and the kills (default 1)")
    parser.add_argument("--kills", type=int, help="how many probers to kill (default: 30 a minute)")
    options = parser.parse_args(arguments)
    kills = options.kills or max(1, round(options.minutes * 30))
    long = options.minutes >= 5
    return Plan(
        kills=kills,
        seed=options.seed,
        life=0.8 * options.minutes * 60 / kills,
        stop=60.0 if long else 3.0,
        hold=14.0 if long else 3.0,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 when nothing is wrong, 1 otherwise."""
    plan = plan_of(arguments)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        try:
            report = asyncio.run(soak(plan, Path(folder)))
        except SandboxError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    print("\n".join(report.lines()))
    return 0 if report.good else 1
