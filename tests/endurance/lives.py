"""Probers that are started, stopped and killed by the soak, and what is known of each."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prober.clock import Instant, SystemClock
from prober.errors import SandboxError

ROOT = Path(__file__).resolve().parents[2]
BORN_WITHIN = 60.0


@dataclass(slots=True)
class Life:
    """One prober process. ``sighted``: it has looked everywhere once, or is gone; ``words`` are its last."""

    number: int
    pid: int = 0
    born: asyncio.Event = field(default_factory=asyncio.Event)
    sighted: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    killed_at: Instant | None = None
    said: str = ""
    words: str = ""
    _pidfd: int = -1

    def adopt(self, pid: int) -> None:
        """Watch the process from now on; it may be gone already."""
        self.pid = pid
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self.bury()
        else:
            asyncio.get_running_loop().add_reader(self._pidfd, self.bury)
        self.born.set()

    def bury(self) -> None:
        """Take note of its end."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self.sighted.set()
        self.ended.set()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; one that is gone gets none."""
        if self._pidfd < 0:
            return
        if number is signal.SIGKILL:
            self.killed_at = SystemClock().now()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)


class Zygote:
    """An async context manager: the parent process that forks the probers. ``log`` collects what they say."""

    def __init__(self, config: Path, ledger: str, log: Path) -> None:
        self.lives: list[Life] = []
        self.complaints: list[str] = []
        self._command = [sys.executable, "-m", "tests.endurance.zygote", str(config), ledger]
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._listening: list[asyncio.Task[None]] = []
        self._own = Life(0)

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, stderr=PIPE, cwd=ROOT, start_new_session=True, limit=1_000_000
        )
        self._listening = [asyncio.create_task(self._hear()), asyncio.create_task(self._keep_log())]
        try:
            async with asyncio.timeout(BORN_WITHIN):
                await self._own.born.wait()
            if not self._own.pid:
                raise SandboxError(f"the probers' parent did not start: {self._log.read_text()[-2000:]}")
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for life in self.lives:
            life.send(signal.SIGKILL)
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()
        await asyncio.gather(*self._listening)
        for life in [self._own, *self.lives]:
            life.bury()

    async def fork(self, **order: Any) -> Life:
        """A new prober; returns once the process is there."""
        life = Life(len(self.lives) + 1)
        self.lives.append(life)
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the zygote has not been entered")
        self._process.stdin.write(json.dumps({"life": life.number, **order}).encode() + b"\n")
        await self._process.stdin.drain()
        async with asyncio.timeout(BORN_WITHIN):
            await life.born.wait()
        return life

    async def _hear(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said: Mapping[str, Any] = json.loads(line)
            life = self.lives[said["life"] - 1] if said["life"] else self._own
            if said["said"] == "born":
                life.adopt(said["pid"])
            elif said["said"] == "sighted":
                life.sighted.set()
            else:
                life.said, life.words = said["said"], said.get("reason", "")
                if life.said == "failed":
                    self.complaints.append(f"life {life.number} failed: {life.words}")
        await asyncio.gather(*self._listening[1:])
        self._own.born.set()

    async def _keep_log(self) -> None:
        """Keep what is logged; errors of the prober's own, other than a ledger that cannot be used, are complaints."""
        assert self._process is not None
        assert self._process.stderr is not None
        with self._log.open("ab") as log:
            async for line in self._process.stderr:
                log.write(line)
                if (complaint := _complaint(line)) is not None:
                    self.complaints.append(complaint)


def _complaint(line: bytes) -> str | None:
    try:
        said = json.loads(line)
    except ValueError:
        return None
    if not isinstance(said, dict) or said.get("level") not in {"error", "critical", "exception"}:
        return None
    raised = str(said.get("exception", "")).rpartition("\n")[2].removeprefix("prober.errors.")
    reason = str(said.get("reason") or raised)
    if reason.startswith("Ledger"):
        return None
    return f"life {said.get('life')}: {said.get('event')} {said.get('error', '')}\n{said.get('exception', '')}"
