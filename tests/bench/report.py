"""What a report over a month costs: ``python -m tests.bench.report [--deliveries 1000000] [--keep FILE]``.

Makes a synthetic ledger (some minutes for a million deliveries; ``--keep`` uses it again), then runs the real command
in a process of its own, once for each form, and prints the wall time, the processor time and the peak memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.ledgers import make_ledger

END = 1_795_000_000.0
DAYS = 30.0
PER_DAY = 5184.0
"""Deliveries that the scenarios make in a day at rate 1."""


def measure(place: str, output: str) -> None:
    """Run the command once, alone, and print what it took."""
    window = ["--since", f"{DAYS:g}d", "--until", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(END))]
    command = [sys.executable, "-m", "prober", "report", "--ledger", place, *window, "--output", output]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with tempfile.TemporaryFile() as out:
        subprocess.run(command, check=True, stdout=out)
        size = out.tell()
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{output:<9} {wall:6.2f} s wall  {cpu:6.2f} s CPU  {after.ru_maxrss / 1024:6.0f} MB peak  {size:>9,} bytes")


def main() -> None:
    """Make or reuse the ledger, then measure each form."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = asked.keep or Path(folder) / "ledger.sqlite"
        if not place.exists():
            started = time.monotonic()
            count = make_ledger(str(place), END, days=DAYS, rate=asked.deliveries / (PER_DAY * DAYS))
            print(
                f"made {count:,} deliveries in {time.monotonic() - started:.0f} s, {place.stat().st_size / 1e6:.0f} MB"
            )
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        for output in ("json", "text", "markdown", "html"):
            measure(str(place), output)


if __name__ == "__main__":
    main()
