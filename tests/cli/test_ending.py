"""How a run ends before its time: Ctrl-C once and twice, SIGTERM, kill -9, a reader or a disk that is gone."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from prober.sandbox.launch import SandboxProcess
from tests.cli.console import PROBER, Console, all_end, changed, children, python, watched

pytestmark = pytest.mark.asyncio(loop_scope="session")

SOON = "channels: {email: {latency: 2s}, slack: {latency: 2s}, discord: {latency: 2s}}\n"
NEVER = "channels: {email: {latency: 10m}, slack: {latency: 10m}, discord: {latency: 10m}}\n"
AT_ONCE = 20.0
"""Ten times the 2 s in which a run has to leave; what it waits for comes after 10 minutes."""

SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@SIGNALS
async def test_once_drains(console: Console, number: signal.Signals) -> None:
    """The first signal ends the launching only: what is under way is awaited, the exit code is the result's."""
    weather = console.write("weather.yaml", SOON)
    run = ("run", "alert-latency", "--weather", weather, "--count", "50", "--every", "30s")
    async with console.start(*run) as running:
        await running.until("accepted")
        (child,) = children(running.pid)
        with watched({child}) as handles:
            running.send(number)
            await running.until("Interrupted: nothing more is launched")
            ended = await running.ended()
            assert all_end(handles)
    assert ended.code == 0, ended.err
    assert "PASS  3 of 3 deliveries on time" in ended.out


@SIGNALS
async def test_twice_leaves_at_once(console: Console, number: signal.Signals) -> None:
    """The second signal leaves with 130 at once, and the sandbox goes, too."""
    weather = console.write("weather.yaml", NEVER)
    async with console.start("run", "alert-latency", "--weather", weather, "--count", "2") as running:
        await running.until("accepted")
        with watched(children(running.pid)) as handles:
            assert len(handles) == 1
            running.send(number)
            await running.until("Interrupted")
            running.send(number)
            ended = await running.ended(AT_ONCE)
            assert all_end(handles)
    assert ended.code == 130
    assert ended.err == ""


async def test_a_killed_prober_takes_its_sandbox_along(console: Console) -> None:
    """kill -9 of the prober ends the sandbox, which would otherwise run for ever."""
    weather = console.write("weather.yaml", NEVER)
    async with console.start("run", "alert-latency", "--weather", weather) as running:
        await running.until("accepted")
        with watched(children(running.pid)) as handles:
            assert len(handles) == 1
            running.send(signal.SIGKILL)
            assert (await running.ended()).code == -signal.SIGKILL
            assert all_end(handles)


async def test_the_sandbox_command_ends_by_a_signal(console: Console) -> None:
    """``prober sandbox`` ends with 0 on a signal, and its world with it."""
    async with console.start("sandbox") as running:
        await running.until_told("/truth")
        with watched(children(running.pid)) as handles:
            running.send(signal.SIGINT)
            ended = await running.ended(AT_ONCE)
            assert all_end(handles)
    assert ended.code == 0


async def test_a_sandbox_that_dies_is_said(console: Console) -> None:
    """When the world ends by itself, ``prober sandbox`` says so and does not pretend that all is well."""
    async with console.start("sandbox") as running:
        await running.until_told("/truth")
        (child,) = children(running.pid)
        os.kill(child, signal.SIGKILL)
        ended = await running.ended(AT_ONCE)
    assert ended.code == 4
    assert "prober: the sandbox has ended by itself" in ended.err


@pytest.mark.parametrize("output", ["text", "json"])
async def test_a_reader_that_leaves(world: SandboxProcess, console: Console, output: str) -> None:
    """When nobody reads the result any more, the run ends as SIGPIPE ends others, without a traceback."""
    config = console.write("prober.yaml", changed(world))
    run = ("run", "alert-latency", "--config", config, "--ledger", "ledger.sqlite", "-o", output)
    reading, writing = os.pipe()
    async with console.start(*run, stdout=writing) as running:
        os.close(writing)
        if output == "text":
            line = await asyncio.to_thread(os.read, reading, 65536)
            assert line.decode().startswith("→ alert-latency")
        os.close(reading)
        ended = await running.ended()
    assert ended.code == 141, ended.err
    assert "Traceback" not in ended.err
    assert "Exception ignored" not in ended.err


@pytest.mark.parametrize("typed", [("run", "alert-latency"), ("run", "alert-latency", "-o", "json"), ("schema",)])
async def test_a_full_disk(world: SandboxProcess, console: Console, typed: tuple[str, ...]) -> None:
    """Output that cannot be written is a fault of our own: 4, one line, and never the 1 that blames the target."""
    if typed[0] == "run":
        config = console.write("prober.yaml", changed(world))
        typed = (*typed, "--config", config, "--ledger", "ledger.sqlite")
    full = os.open("/dev/full", os.O_WRONLY)
    async with console.start(*typed, stdout=full) as running:
        os.close(full)
        ended = await running.ended()
    assert ended.code == 4, ended.err
    assert ended.err.rstrip().endswith("prober: a fault of our own: [Errno 28] No space left on device")
    assert "Traceback" not in ended.err


async def test_closed_standard_streams(world: SandboxProcess, console: Console) -> None:
    """A prober that was started without standard streams does its work, and no file takes their numbers."""
    config = console.write("prober.yaml", changed(world))
    script = f'exec "{PROBER}" run alert-latency --config "{config}" --ledger ledger.sqlite <&- >&- 2>&-'
    async with console.start("-c", script, command=("/bin/sh",)) as running:
        ended = await running.ended()
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert (console.folder / "ledger.sqlite").read_bytes().startswith(b"SQLite format 3\0")


async def test_output_to_a_file(world: SandboxProcess, console: Console) -> None:
    """Written to a file, the result is whole, without control sequences."""
    config = console.write("prober.yaml", changed(world))
    with console.file("out.txt") as number:
        run = ("run", "alert-latency", "--config", config, "--ledger", "ledger.sqlite")
        async with console.start(*run, stdout=number) as running:
            ended = await running.ended()
    assert (ended.code, ended.err) == (0, "")
    written = console.read("out.txt")
    assert written.rstrip().endswith("PASS  3 of 3 deliveries on time")
    assert "\x1b" not in written


async def test_a_fault_of_our_own_never_blames_the_target(console: Console) -> None:
    """An error that nobody foresaw ends with 4 and is traced, since 1 would mean that the target failed."""
    broken = "import prober.cli.app as a, prober.cli as c; a.app = lambda **_: 1 / 0; c.main()"
    async with console.start(command=python("-c", broken)) as running:
        ended = await running.ended()
    assert ended.code == 4
    assert "ZeroDivisionError: division by zero" in ended.err
    assert ended.err.rstrip().endswith(
        "prober: a fault of our own, nothing is said about the target: ZeroDivisionError"
    )
