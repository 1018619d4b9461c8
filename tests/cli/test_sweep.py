"""``prober sweep`` as it is typed: what it says would go, what goes, and how it ends where it cannot."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from imapclient import IMAPClient

from prober.sandbox.launch import SandboxProcess, start_sandbox
from tests.cli.console import Console, changed
from tests.conformance.scripted_api import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

AT_ONCE = ("limits", {"sweep": {"success": "0s", "failure": "0s"}})
FOR_A_DAY = ("limits", {"sweep": {"success": "1d", "failure": "1d"}})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own_world() -> AsyncIterator[SandboxProcess]:
    """A sandbox whose channels are swept."""
    async with start_sandbox() as sandbox:
        yield sandbox


async def lying(world: SandboxProcess) -> int:
    """How many mails lie in the inbox."""
    box = world.configuration["observers"]["mailbox-1"]

    def count() -> int:
        with IMAPClient(box["host"], box["port"], ssl=False, timeout=20) as client:
            client.login(box["username"], box["password"])
            client.select_folder("INBOX", readonly=True)
            return len(client.search())

    return await asyncio.to_thread(count)


async def probed(console: Console, config: str, count: int = 1) -> None:
    """Probes whose messages are left on the channels, on record in the ledger of the folder."""
    ended = await console.run("run", "alert-latency", "-c", config, "--ledger", "l.sqlite", "--no-sweep", "--count",
                              str(count), "--every", "50ms")  # fmt: skip
    assert ended.code == 0, ended.out


async def sweep(console: Console, config: str, *more: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and what the command says to a program."""
    ended = await console.run("sweep", "-c", config, "--ledger", "l.sqlite", "-o", "json", *more)
    assert ended.out, ended.err
    told: dict[str, Any] = json.loads(ended.out)
    assert set(told) == {"version", "dry_run", "complete", "ended", "would_go", "backlog", "trouble"}
    return ended.code, told


async def test_what_would_go_is_said_and_then_goes(own_world: SandboxProcess, console: Console) -> None:
    """A rehearsal names what is due and touches nothing; the sweep removes it, once; nothing is left."""
    config = console.write("prober.yaml", changed(own_world, AT_ONCE))
    before = await lying(own_world)
    await probed(console, config, 2)
    code, told = await sweep(console, config, "--dry-run")
    assert (code, told["dry_run"], told["complete"], told["ended"]) == (0, True, True, {})
    assert told["would_go"] == {"message discord": 2, "message email": 2, "message slack": 2, "publication": 2}
    assert await lying(own_world) == before + 2
    code, told = await sweep(console, config)
    assert (code, told["complete"], told["trouble"]) == (0, True, {})
    assert told["ended"]["email"] == {"removed": 2}
    assert told["ended"]["publications"] == {"too_late": 2}  # an alert that has gone out cannot be called back
    assert await lying(own_world) == before
    again = await console.run("sweep", "-c", config, "--ledger", "l.sqlite")
    assert (again.code, again.out) == (0, "Nothing to remove.\n")


async def test_what_is_not_due_stays(own_world: SandboxProcess, console: Console) -> None:
    """A message stays as long as the configuration says, and the rehearsal says so."""
    config = console.write("prober.yaml", changed(own_world, FOR_A_DAY))
    before = await lying(own_world)
    await probed(console, config)
    rehearsed = await console.run("sweep", "-c", config, "--ledger", "l.sqlite", "--dry-run")
    assert (rehearsed.code, rehearsed.out) == (0, "Nothing would go.\n")
    code, told = await sweep(console, config)
    assert (code, told["ended"], await lying(own_world)) == (0, {}, before + 1)


async def test_a_provider_that_cannot_be_reached(own_world: SandboxProcess, console: Console) -> None:
    """The sweep exits with 4 and says why; what the others hold has gone, and the rest goes when it is back."""
    config = console.write("prober.yaml", changed(own_world, AT_ONCE))
    before = await lying(own_world)
    await probed(console, config)
    away = console.write("away.yaml", changed(own_world, AT_ONCE, ("observers.mailbox-1.port", await free_port())))
    code, told = await sweep(console, away, "--dry-run")
    assert (code, list(told["trouble"])) == (4, ["mailbox-1"])
    code, told = await sweep(console, away)
    assert (code, list(told["trouble"])) == (4, ["mailbox-1"])
    assert told["trouble"]["mailbox-1"].startswith("unreachable: ")
    assert told["ended"]["publications"] == {"too_late": 1}
    assert await lying(own_world) == before + 1
    ended = await console.run("sweep", "-c", away, "--ledger", "l.sqlite")
    assert ended.code == 4
    assert "mailbox-1" in ended.out
    assert "Traceback" not in ended.out + ended.err


async def test_the_time_is_kept(own_world: SandboxProcess, console: Console) -> None:
    """With --max-time it ends with 3 and what is left in the backlog; the next one finishes.

    Publications are withdrawn one a second after the first six, so ten take four seconds on the quickest machine.
    """
    config = console.write("prober.yaml", changed(own_world, AT_ONCE))
    await probed(console, config, 10)
    code, told = await sweep(console, config, "--max-time", "1s")
    assert (code, told["complete"], told["trouble"]) == (3, False, {})
    first = told["ended"].get("publications", {}).get("too_late", 0)
    assert first < 10
    code, told = await sweep(console, config)
    assert (code, told["complete"]) == (0, True)
    assert first + told["ended"]["publications"]["too_late"] == 10


async def test_nothing_is_swept_without_a_target(console: Console) -> None:
    """It exits with 2 and names where it looked for a configuration; a time that is none is refused by its name."""
    ended = await console.run("sweep")
    assert ended.code == 2
    assert str(console.folder / "prober.yaml") in ended.err
    ended = await console.run("sweep", "--max-time", "soon")
    assert ended.code == 2
    assert "--max-time" in ended.err
