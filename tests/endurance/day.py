"""Hours of scheduled probing on the manual clock and the in-process world, Slack out in the middle, held against truth.

``tests/soak --day [--hours N]`` simulates a day, prints what was true beside what was measured, and the memory by the
hour; it exits 1 where they differ or where the memory grows.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection

from prober.clock import Instant
from prober.ledger.standing import objective_counts
from prober.model import Schedule
from prober.objectives import Indicator, Objective
from prober.sandbox.manual_clock import START
from tests.flow.rig import LOCATION, SCENARIO, Rig, conserved, total
from tests.flow.test_scheduling import Plan

PERIOD = 60.0
HOUR = 3600.0
GROWTH = 1000
"""Python objects by which the second half may end above its begin: what is in flight just then. A leak of one object
for each delivery would be more in six hours."""
CONTAINERS = frozenset({dict, OrderedDict, deque, list, set, tuple})
STEADY = replace(SCENARIO, schedule=Schedule(every=PERIOD), within=30.0, give_up=60.0)
OBJECTIVES = (Objective("in-time", Indicator.TIMELINESS, 0.95), Objective("delivered", Indicator.DELIVERY, 0.95))


@dataclass(frozen=True)
class Day:
    """What was true and what was measured, by name, and the live objects at the end of each part."""

    truth: Mapping[str, float]
    measured: Mapping[str, float]
    objects: Sequence[int]
    whole: bool

    @property
    def growth(self) -> int:
        """Objects at the end above those in the middle."""
        return self.objects[-1] - self.objects[len(self.objects) // 2]

    @property
    def right(self) -> bool:
        return self.truth == self.measured and self.whole and self.growth < GROWTH


async def simulate(folder: Path, hours: float, parts: int) -> Day:
    """Slack loses all of the middle third."""
    begin, end = hours * HOUR / 3, 2 * hours * HOUR / 3
    rig = Rig(folder, f"windows: [{{from: {begin:g}s, to: {end:g}s, channels: {{slack: {{loss: 1.0}}}}}}]")
    slots = [number * PERIOD - START % PERIOD for number in range(1, int(hours * HOUR / PERIOD) + 1)]
    lost = sum(begin <= slot < end for slot in slots)
    objects = []
    async with rig.world_turning(), rig.life(timetable=Plan(rig, STEADY)) as life:
        for _ in range(parts):
            await rig.clock.advance(hours * HOUR / parts)
            objects.append(_live_objects(rig))
        await rig.clock.advance(120)
        probes = len(rig.world.world.requests)
        measured = await life.flow.ledger.read(_counted)
        now = rig.clock.now().wall
        kinds = {STEADY.name: STEADY.kind.value}
        counts = await life.flow.ledger.read(objective_counts, LOCATION, OBJECTIVES, kinds, now)
        for name, found in counts.items():
            measured[name] = -1.0 if found.ratio is None else found.ratio
        whole = await life.flow.ledger.read(conserved)
    share = (3 * probes - lost) / (3 * probes)
    truth = {
        "slots started": probes, "deliveries": 3 * probes, "on time": 3 * probes - lost, "overdue on slack": lost,
        "lost on slack": lost, "in-time": share, "delivered": share,
    }  # fmt: skip
    return Day(truth, measured, objects, whole and probes >= len(slots))


def _live_objects(rig: Rig) -> int:
    """Python's live objects without those of the world's own record, which keeps the truth of every publication."""
    gc.collect()
    world = rig.world
    boards = [world.board(place.address).posts for place in world.places]
    held: set[int] = set()
    left: list[object] = [world.truth, world.world.records, world.world.requests, boards]
    while left:
        one = left.pop()
        if id(one) not in held and gc.is_tracked(one) and (type(one) in CONTAINERS or _is_of_the_truth(type(one))):
            held.add(id(one))
            left += gc.get_referents(one)
    return len(gc.get_objects()) - len(held)


def _is_of_the_truth(kind: type) -> bool:
    return kind is Instant or kind.__module__.startswith("prober.sandbox.")


def _counted(conn: Connection) -> dict[str, float]:
    return {
        "slots started": total(conn, "slots_total", state="started"),
        "deliveries": total(conn, "deliveries_expected_total"),
        "on time": total(conn, "timeliness_total", verdict="on_time"),
        "overdue on slack": total(conn, "timeliness_total", verdict="overdue", channel="slack"),
        "lost on slack": total(conn, "deliveries_total", outcome="lost", channel="slack"),
    }


def main() -> int:
    """Simulate, print, and say by the exit code whether all was right."""
    parser = argparse.ArgumentParser(description="A simulated day with an outage in the middle.")
    parser.add_argument("--day", action="store_true")
    parser.add_argument("--hours", type=int, default=24)
    hours = parser.parse_args().hours
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        day = asyncio.run(simulate(Path(folder), hours, hours))
    for name, value in day.truth.items():
        sys.stdout.write(f"{name:18}{value:12.6g} true{day.measured[name]:12.6g} measured\n")
    sys.stdout.write(f"live objects by the hour: {', '.join(map(str, day.objects))}\n")
    sys.stdout.write(f"{time.process_time() - began:.0f} s of CPU; {'right' if day.right else 'WRONG'}\n")
    return 0 if day.right else 1
