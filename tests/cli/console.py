"""The installed ``prober`` as a user starts it: a process of its own, with a home and a folder of its own."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
import sysconfig
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema

from prober.config import dump_configuration
from prober.report.schema import result_schema
from prober.sandbox.launch import SandboxProcess

PROBER = str(Path(sysconfig.get_path("scripts")) / "prober")
PATIENCE = 120.0
"""Seconds after which a process that has not done what it should fails its test."""

_OURS = ("PROBER_CONFIG", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "COLUMNS", "TERM", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE")


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its exit code (negative: the signal) and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output as a result; fails where the result's schema does not describe it."""
        found: dict[str, Any] = json.loads(self.out)
        jsonschema.validate(found, result_schema(), format_checker=jsonschema.FormatChecker())
        return found

    @property
    def deliveries(self) -> list[tuple[str, str, str]]:
        """Channel, timeliness and outcome of each delivery of the JSON result."""
        return [
            (one["channel"], one["timeliness"]["verdict"], one["outcome"]["verdict"])
            for probe in self.json["probes"]
            for one in probe["deliveries"]
        ]


@dataclass
class Running:
    """A process that runs; ``seen`` is what it has written to standard output so far."""

    process: asyncio.subprocess.Process
    seen: list[str] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    async def until(self, text: str) -> str:
        """Read standard output up to the first line that holds ``text``; returns the line."""
        return await self._until(self.process.stdout, text)

    async def until_told(self, text: str) -> str:
        """The same on standard error."""
        return await self._until(self.process.stderr, text)

    async def _until(self, stream: asyncio.StreamReader | None, text: str) -> str:
        assert stream is not None
        async with asyncio.timeout(PATIENCE):
            while line := (await stream.readline()).decode():
                self.seen.append(line)
                if text in line:
                    return line
        raise AssertionError(f"it ended without {text!r}: {self.seen}")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, within: float = PATIENCE) -> Ended:
        """Wait for its end; ``out`` is all that it wrote, what was read before included."""
        talk = asyncio.ensure_future(self.process.communicate())
        done, _ = await asyncio.wait({talk}, timeout=within)
        if not done:
            self.process.kill()
        out, err = await talk
        assert done, f"it did not end within {within:g} s: {(out or b'').decode()}{(err or b'').decode()}"
        assert self.process.returncode is not None
        return Ended(self.process.returncode, "".join(self.seen) + (out or b"").decode(), (err or b"").decode())


@dataclass(frozen=True)
class Console:
    """A folder to work in and an environment, in which ``prober`` is typed."""

    folder: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder.parent / "home"

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _OURS and name[:5] != "OTEL_"}
        return {**kept, "HOME": str(self.home), "LC_ALL": "C.UTF-8", **self.environ, **(more or {})}

    def write(self, name: str, text: str) -> str:
        """A file in the folder; returns its path."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def read(self, name: str) -> str:
        """What a file in the folder holds."""
        return (self.folder / name).read_text(encoding="utf-8")

    @contextmanager
    def file(self, name: str) -> Iterator[int]:
        """A file in the folder to write to, as a descriptor."""
        with (self.folder / name).open("wb") as file:
            yield file.fileno()

    async def run(self, *arguments: str, within: float = PATIENCE, environ: Mapping[str, str] | None = None) -> Ended:
        """Type a command, wait for its end."""
        async with self.start(*arguments, environ=environ) as running:
            return await running.ended(within)

    @asynccontextmanager
    async def start(
        self, *arguments: str, command: tuple[str, ...] = (PROBER,), stdout: int = asyncio.subprocess.PIPE,
        environ: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Running]:  # fmt: skip
        """Type a command and let it run; it is killed at the end if it still does."""
        process = await asyncio.create_subprocess_exec(
            *command, *arguments, cwd=self.folder, env=self.environment(environ), stdout=stdout,
            stdin=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        running = Running(process)
        try:
            yield running
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


def python(*arguments: str) -> tuple[str, ...]:
    """A command of this Python."""
    return (sys.executable, *arguments)


def changed(world: SandboxProcess, *changes: tuple[str, Any]) -> str:
    """The world's configuration as text with other values at dotted places."""
    configuration = json.loads(json.dumps(world.configuration))
    for place, value in changes:
        *way, last = place.split(".")
        inner = configuration
        for part in way:
            inner = inner[part]
        inner[last] = value
    return dump_configuration(configuration)


def children(pid: int) -> set[int]:
    """The processes that ``pid`` has started and that still run."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat[1]) == pid and stat[0] != "Z":
            found.add(int(entry.name))
    return found


@contextmanager
def watched(pids: set[int]) -> Iterator[list[int]]:
    """Handles on processes that go on meaning them when their numbers are used again."""
    handles = [os.pidfd_open(pid) for pid in pids]
    try:
        yield handles
    finally:
        for handle in handles:
            os.close(handle)


def all_end(handles: list[int], within: float = 20.0) -> bool:
    """Whether all of these processes end in time."""
    return all(select.select([handle], [], [], within)[0] for handle in handles)
