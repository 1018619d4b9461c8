"""How the gate decides about targets of a known quality: ``python -m tests.bench.gate [--runs 20000]``.

Simulates whole gates on three channels through :func:`prober.gate.judge_channel`, and beside each figure gives the
exact one: the walk of Wald's test between its two bounds, solved by counting (no approximation). Prints the table of
scenarios/README.md.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Sequence
from enum import StrEnum

from prober.gate import PROFILES, Asked, Event, Profile, Said, judge_channel
from prober.report.values import Result
from prober.statistics import Decision, SequentialTest

SHARES = (0.90, 0.95, 0.97, 0.99, 0.999)
CHANNELS = 3
GOOD_AFTER, BAD_AFTER = 0.1, 30.0
"""Seconds after its launch at which a good and a bad delivery settle."""

_ASKED = Asked("simulated", "simulated", 30.0)
_SAID = {True: Said(Event.GOOD, "", ""), False: Said(Event.BAD, "", "")}


class Order(StrEnum):
    """In which order probes count: as the gate does it, or as it must not."""

    LAUNCH = "launch"
    SETTLEMENT = "settlement"


def first_decision(profile: Profile, tests: int, good: Sequence[bool], order: Order) -> tuple[Result, int]:
    """The first decision about one channel as its probes settle, and how many had been launched by then."""
    test, every = profile.test(tests), profile.every(tests)
    events = [(n * every + (GOOD_AFTER if ok else BAD_AFTER), n) for n, ok in enumerate(good)]
    heapq.heapify(events)
    said: list[Said | None] = [None] * len(good)
    settled: list[Said | None] = []
    while events:
        now, n = heapq.heappop(events)
        said[n] = _SAID[good[n]]
        settled.append(said[n])
        result = judge_channel(test, _ASKED, said if order is Order.LAUNCH else settled).result
        if result is not Result.INCONCLUSIVE:
            return result, min(len(good), int(now / every) + 1)
    return Result.INCONCLUSIVE, len(good)


def distribution(test: SequentialTest, bad: float, most: int) -> list[tuple[float, float]]:
    """For each number of probes from 1: the exact chances that the test passes, and that it fails, just then."""
    open_, found = {0: 1.0}, []
    for n in range(1, most + 1):
        step: dict[int, float] = {}
        for count, chance in open_.items():
            step[count] = step.get(count, 0.0) + chance * (1 - bad)
            step[count + 1] = step.get(count + 1, 0.0) + chance * bad
        decided = {Decision.PASS: 0.0, Decision.FAIL: 0.0}
        open_ = {}
        for count, chance in step.items():
            decision = test.decide(n - count, count)
            if decision is Decision.UNDECIDED:
                open_[count] = chance
            else:
                decided[decision] += chance
        found.append((decided[Decision.PASS], decided[Decision.FAIL]))
    return found


def pass_chance(test: SequentialTest, bad: float, most: int) -> float:
    """The exact chance that one channel passes."""
    return sum(passed for passed, _ in distribution(test, bad, most))


def gate_theory(profile: Profile, bad: float, channels: int = CHANNELS) -> tuple[float, float, float]:
    """Exact chances that a gate passes and that it fails, and the mean number of probes that it counts."""
    undecided, passed, mean = 1.0, 0.0, 0.0
    chances = distribution(profile.test(channels), bad, profile.max_probes)
    for passing, failing in chances:
        # Open until the first channel fails or the last one passes: nobody has failed, and not all have passed.
        mean += (passed + undecided) ** channels - passed**channels
        passed, undecided = passed + passing, undecided - passing - failing
    return passed**channels, 1 - (passed + undecided) ** channels, mean


def simulate(profile: Profile, bad: float, runs: int, seed: int = 1) -> tuple[float, float, float]:
    """The same, simulated: each gate ends with the first channel that fails or the last one that passes."""
    source, test = random.Random(seed), profile.test(CHANNELS)
    passed = failed = probes = 0
    for _ in range(runs):
        ends = []
        for _ in range(CHANNELS):
            said = [_SAID[source.random() >= bad] for _ in range(profile.max_probes)]
            found = judge_channel(test, _ASKED, said)
            ends.append((found.result, found.good + found.bad))
        failures = [n for result, n in ends if result is Result.FAIL]
        passed += all(result is Result.PASS for result, _ in ends)
        failed += bool(failures)
        probes += min(failures) if failures else max(n for _, n in ends)
    return passed / runs, failed / runs, probes / runs


def rows(runs: int) -> list[str]:
    """The table in Markdown: simulated, with the exact figure in brackets."""
    lines = ["| profile | truly good | passes | fails | undecided | probes counted |", "|---|--:|--:|--:|--:|--:|"]
    for profile in PROFILES.values():
        for share in SHARES:
            exact, found = gate_theory(profile, 1 - share), simulate(profile, 1 - share, runs)
            cells = [f"{100 * a:.1f} % ({100 * b:.1f})" for a, b in zip(found[:2], exact[:2], strict=True)]
            cells.append(f"{100 * (1 - found[0] - found[1]):.1f} % ({100 * (1 - exact[0] - exact[1]):.1f})")
            cells.append(f"{found[2]:.0f} ({exact[2]:.0f})")
            lines.append(f"| {profile.name} | {100 * share:g} % | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000)
    print("\n".join(rows(parser.parse_args().runs)))
