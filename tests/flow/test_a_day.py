"""Hours of scheduled probing with an outage in the middle; ``tests/soak --day`` simulates all twenty-four."""

from __future__ import annotations

from pathlib import Path

from tests.endurance.day import GROWTH, simulate


async def test_percentages_equal_the_truth_through_an_outage(tmp_path: Path) -> None:
    """Counters, and the ratios that objectives take from them, say just what was true; the memory stays flat."""
    day = await simulate(tmp_path, 1.0, 4)
    assert day.measured == day.truth
    assert day.truth["lost on slack"] >= 19
    assert day.whole
    assert day.growth < GROWTH, day.objects
