"""``prober tick`` as cron starts it, against a sandbox over the real protocols."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from prober.ledger.lock import ObservingLock
from prober.sandbox.launch import SandboxProcess
from tests.cli.console import PATIENCE, Console, changed
from tests.endurance.ticks import SCENARIO, Cron

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def place(console: Console, world: SandboxProcess) -> str:
    """A folder with a configuration and one scenario that is always due; returns where the ledger will be."""
    (console.folder / "scenarios").mkdir()
    # Mail is read every second, and the chat services every few: one channel is enough here, and quick.
    console.write("scenarios/ticked.yaml", SCENARIO.replace("[email, slack, discord]", "[email]"))
    ledger = str(console.folder / "ledger.sqlite")
    console.write("prober.yaml", changed(world, ("ledger", ledger), ("serve", {"textfile": "prober.prom"})))
    return ledger


def samples(path: Path) -> dict[str, float]:
    """The sum of each sample in a textfile."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


@pytest.mark.timeout(300)
async def test_no_pass_contradicts_the_truth(world: SandboxProcess, console: Console) -> None:
    """Every few seconds for a while, overlapping, lingering or not: each verdict and interval is as the sandbox knows,
    and the passes together told of each verdict once. (`tests/soak --tick` does it for long, in bad weather.)"""
    async with world.control() as control:
        passes = await Cron(console, world, control).run(seconds=30.0, every=3.0)
    assert passes.good, "\n".join(passes.lines())
    assert set(passes.codes) == {0}
    assert passes.comparison.deliveries >= 9
    assert passes.comparison.share("on_time") >= 0.5, passes.lines()


async def test_a_pass_says_what_it_came_to_and_writes_the_textfile(console: Console, place: str) -> None:
    """One line for cron's log, with the ambiguous share; the same numbers for Prometheus."""
    ended = await console.run("tick", "--scenarios", "scenarios")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("Slots: 1 planned. Published: 1 accepted. Timeliness: 1 on_time (0.0% ambiguous); ")
    assert "outcome: 1 delivered. Still open: 0." in ended.out
    found = samples(console.folder / "prober.prom")
    assert found["prober_slots_total"] == 2  # planned, started
    assert found["prober_deliveries_total"] == found["prober_timeliness_total"] == 1
    assert not [path.name for path in console.folder.iterdir() if path.name.endswith(".tmp")]


async def test_a_held_lock_makes_a_pass_publish_and_end(world: SandboxProcess, console: Console, place: str) -> None:
    """It exits with 0 and leaves the rest to whoever holds the lock; the next one collects."""
    await console.run("tick", "--scenarios", "scenarios", "--linger", "0")
    lock = ObservingLock(place, world.configuration.get("location", "local"))
    assert await lock.take()
    ended = await console.run("tick", "--scenarios", "scenarios", "--output", "json")
    told: dict[str, Any] = json.loads(ended.out)
    assert (ended.code, told["observed"], told["published"], told["timeliness"]) == (0, False, {"accepted": 1}, {})
    assert told["open"] >= 1
    assert told["ambiguous_share"] is None
    await lock.release()
    ended = await console.run("tick", "--scenarios", "scenarios", "--output", "json")
    told = json.loads(ended.out)
    assert (ended.code, told["observed"], told["open"]) == (0, True, 0)
    assert sum(told["outcome"].values()) >= 2


async def test_a_ledger_that_is_locked_is_busy_and_not_the_targets_fault(console: Console, place: str) -> None:
    """75, as cron and systemd know it, and one line that says why."""
    await console.run("tick", "--scenarios", "scenarios", "--linger", "0")
    other = sqlite3.connect(place, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ended = await console.run("tick", "--scenarios", "scenarios", "--linger", "0")
    other.close()
    assert ended.code == 75
    assert ended.out == ""
    assert "nothing could be done" in ended.err
    assert "another process holds its lock" in ended.err


async def test_nothing_readable_is_said_by_the_exit_code(world: SandboxProcess, console: Console, place: str) -> None:
    """4, with each blind observer and why; what was due went out all the same."""
    closed = "http://127.0.0.1:1/"
    nowhere: dict[str, tuple[str, Any]] = {
        "imap": ("port", 1),
        "slack": ("api_url", closed),
        "discord": ("api_url", closed),
    }
    shut = []
    for name, raw in world.configuration["observers"].items():
        field, value = nowhere[raw["adapter"]]
        shut.append((f"observers.{name}.{field}", value))
    console.write("prober.yaml", changed(world, ("ledger", place), *shut))
    ended = await console.run("tick", "--scenarios", "scenarios", "--linger", "0", "--output", "json")
    told = json.loads(ended.out)
    assert (ended.code, told["read"], told["published"]) == (4, [], {"accepted": 1})
    assert set(told["blind"]) >= {"slack", "discord", "mailbox-1"}
    assert told["open"] == 1


async def test_a_stop_ends_a_pass_in_order(world: SandboxProcess, console: Console, place: str) -> None:
    """SIGTERM ends the waiting: the pass tells what it did, and exits with 130."""
    late = console.read("scenarios/ticked.yaml").replace("2s}", "1h}")
    late = late.replace("kind: alert, priority: critical, content: alert",
                        "kind: newsletter, content: newsletter, scheduled_after: 60s")  # fmt: skip
    console.write("scenarios/ticked.yaml", late)
    async with console.start("tick", "--scenarios", "scenarios") as running:
        await _until_published(Path(place))
        running.send(signal.SIGTERM)
        ended = await running.ended()
    assert ended.code == 130
    assert "Published: 1 accepted." in ended.out
    assert "Still open: 1." in ended.out


async def _until_published(place: Path) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if _published(place):
                return
            await asyncio.sleep(0.05)


def _published(place: Path) -> bool:
    if not place.exists():
        return False
    conn = sqlite3.connect(f"file:{place}?mode=ro", uri=True)
    try:
        return bool(conn.execute("SELECT 1 FROM steps WHERE result = 'accepted'").fetchall())
    except sqlite3.OperationalError:
        return False
    finally:
        conn.close()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--sandbox", "--linger", "0"), "gone before a later one could collect"),
        (("--linger", "soon"), "--linger"),
        (("--output", "xml"), "--output"),
        (("alert-latencyy", "--sandbox"), "did you mean"),
        ((), "no configuration in"),
    ],
)
async def test_a_mistake_is_answered_with_its_mend(console: Console, arguments: tuple[str, ...], told: str) -> None:
    """Exit code 2 before anything starts or is published."""
    ended = await console.run("tick", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert told in ended.err


async def test_a_sandbox_of_its_own_is_lingered_for_until_all_is_settled(console: Console) -> None:
    """It is thrown away at the end: nothing may be left for later."""
    ended = await console.run("tick", "--sandbox", "alert-latency", "--output", "json")
    told = json.loads(ended.out)
    assert (ended.code, told["target"]["sandbox"], told["open"]) == (0, True, 0)
    assert told["outcome"] == {"delivered": 3}
