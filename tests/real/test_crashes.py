"""kill -9 at every commit boundary of every stage, on the sandbox over the real protocols."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import Connection, select

from prober.config import dump_configuration
from prober.ledger.ledger import Ledger
from prober.ledger.tables import deliveries, steps
from prober.sandbox.launch import SandboxProcess, start_sandbox
from tests.flow.rig import conserved, total
from tests.real.mortal import mortal

BOUNDARIES = [
    ("plan_probes", 1),
    ("claim_steps", 1),
    ("record_answer", 1),
    ("record", 1),
    ("record", 2),
    ("record", 3),
    ("settle_due", 1),
    ("settle_due", 2),
]
"""Every transaction of plan, publish, observe and settle that a healthy probe goes through: what, and which time."""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module", params=["before", "after"])
def phase(request: pytest.FixtureRequest) -> str:
    """When a prober dies: before the commit, or after it."""
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(phase: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[SandboxProcess, Path]]:
    """A sandbox that outlives the probers, and its configuration as a file.

    One for each phase: Slack lets an app open about thirty connections at once and then makes each life wait.
    """
    async with start_sandbox() as sandbox:
        config = tmp_path_factory.mktemp(f"world-{phase}") / "prober.yaml"
        config.write_text(dump_configuration(sandbox.configuration), encoding="utf-8")
        yield sandbox, config


def on_record(conn: Connection) -> tuple[dict[str, list[tuple[str, str]]], Counter[str], bool]:
    """The verdicts of each probe, the steps' results, conservation."""
    verdicts: dict[str, list[tuple[str, str]]] = {}
    for row in conn.execute(select(deliveries)).all():
        verdicts.setdefault(row.probe_id, []).append((str(row.timeliness), str(row.outcome)))
    results = Counter(str(result) for result in conn.execute(select(steps.c.result)).scalars())
    return verdicts, results, conserved(conn)


@pytest.mark.parametrize(("job", "nth"), BOUNDARIES)
async def test_death_at_a_commit_boundary(
    world: tuple[SandboxProcess, Path], tmp_path: Path, phase: str, job: str, nth: int
) -> None:
    """Starting again resumes: each step was taken at most once, each delivery is settled once and truthfully."""
    sandbox, config = world
    ledger = tmp_path / "ledger.sqlite"
    assert await mortal(config, ledger, phase, job, nth) == -9
    assert await mortal(config, ledger, "never", "", 1) == 0
    async with sandbox.control() as control:
        requests = await control.publications()
    creates = Counter(request["idempotency_key"] for request in requests if request["idempotency_key"])
    assert max(creates.values()) == 1
    async with Ledger(str(ledger)) as book:
        verdicts, results, whole = await book.read(on_record)
    assert whole
    # A probe that was planned and not yet claimed goes out in the next life; one whose plan was lost never was.
    expected = 1 if (phase, job) == ("before", "plan_probes") else 2
    assert len(verdicts) == expected
    assert results["accepted"] + results["interrupted"] == expected
    for probe, found in verdicts.items():
        # What reached the target arrived, so it is on time; of what did not, nothing may be said before the horizon.
        truth = ("on_time", "delivered") if f"{probe}-0" in creates else ("None", "None")
        assert found == [truth] * 3


@pytest.mark.parametrize(("job", "nth"), [("plan_clean_ups", 1), ("end_clean_ups", 2)])
async def test_death_in_the_sweep(
    world: tuple[SandboxProcess, Path], tmp_path: Path, phase: str, job: str, nth: int
) -> None:
    """A removal that was done and not recorded is repeated harmlessly: each clean-up ends once, no verdict moves."""
    _, config = world
    ledger = tmp_path / "ledger.sqlite"
    assert await mortal(config, ledger, phase, job, nth) == -9
    assert await mortal(config, ledger, "swept", "", 1) == 0
    async with Ledger(str(ledger)) as book:
        verdicts, _, whole = await book.read(on_record)
        assert await book.read(total, "clean_ups_total", channel="email", kind="message") == 2
        assert await book.read(total, "clean_ups_total", kind="publication") == 2
        assert await book.read(total, "strays_total") == 0
    assert whole
    assert list(verdicts.values()) == [[("on_time", "delivered")] * 3] * 2
