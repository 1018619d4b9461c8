"""The short form of the soak: forty kills on one ledger in random weather, everything compared with the truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.endurance.soak import plan_of, soak

SHORT = ("--minutes", "1.2", "--kills", "40", "--seed", "4")


@pytest.mark.timeout(600)
async def test_short_soak(tmp_path: Path) -> None:
    """Whatever kills, stops or starves the prober, no verdict is wrong, no interval misses, no step is taken twice."""
    report = await soak(plan_of(SHORT), tmp_path)
    said = "\n".join(report.lines())
    assert report.good, said
    assert report.restarts >= 40, said
    # A soak in which nothing arrives, comes late, is lost or is cut off would prove nothing.
    verdicts = {word for pair in report.comparison.verdicts for word in pair}
    assert {"on_time", "overdue", "delivered", "lost"} <= verdicts, said
    assert report.comparison.results["interrupted"] > 0, said
