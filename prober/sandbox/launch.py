"""Starts the sandbox as a child process, waits until it is ready, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prober.errors import SandboxError

if TYPE_CHECKING:
    from prober.sandbox.remote import SandboxControl

READY_WITHIN = 20.0
STOP_WITHIN = 0.8
_ROOT = str(Path(__file__).resolve().parents[2])
_LINE_LIMIT = 1_000_000


@dataclass(frozen=True, slots=True)
class SandboxProcess:
    """A sandbox that is ready. ``configuration`` is a whole ``prober.yaml`` as a mapping, secrets included."""

    world_id: str
    configuration: Mapping[str, Any] = field(repr=False)
    control_url: str
    control_token: str = field(repr=False)
    pid: int
    _process: asyncio.subprocess.Process = field(repr=False)

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait for its end; the exit status."""
        return await self._process.wait()

    def control(self) -> SandboxControl:
        """A client of its control API, to be entered."""
        from prober.sandbox.remote import SandboxControl  # noqa: PLC0415 - aiohttp is loaded only for it

        return SandboxControl(self.control_url, self.control_token)


@asynccontextmanager
async def start_sandbox(
    weather: str | Path | None = None, dialect: str = "documented", *, aws: bool = False
) -> AsyncIterator[SandboxProcess]:
    """A sandbox in a child process, which ends with the context, and with this process whatever happens.

    ``weather`` is a shipped weather's name or a file; ``aws`` adds an inbox that SES puts into a bucket. Raises
    SandboxError with the child's last words when it does not become ready.
    """
    command = [sys.executable, "-m", "prober.sandbox", "--with-parent", "--dialect", dialect]
    if aws:
        command.append("--with-aws")
    if weather is not None:
        command += ["--weather", str(weather)]
    pipe = asyncio.subprocess.PIPE
    # In a session of its own, a Ctrl-C that ends the run does not end the world before the run has said its result.
    process = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=pipe, env=_environment(), limit=_LINE_LIMIT, start_new_session=True
    )
    words: deque[str] = deque(maxlen=20)
    listening = asyncio.create_task(_listen(process, words))
    try:
        ready = await _ready(process, words, listening)
        yield SandboxProcess(
            world_id=ready["world_id"],
            configuration=ready["configuration"],
            control_url=ready["control"]["url"],
            control_token=ready["control"]["token"],
            pid=process.pid,
            _process=process,
        )
    finally:
        await _stop(process)
        await listening


async def _ready(
    process: asyncio.subprocess.Process, words: deque[str], listening: asyncio.Task[None]
) -> dict[str, Any]:
    if process.stdout is None:
        raise SandboxError("the sandbox has no output")
    try:
        async with asyncio.timeout(READY_WITHIN):
            line = await process.stdout.readline()
            if not line:
                await listening
                raise SandboxError(f"the sandbox could not be started: {words[-1] if words else 'it said nothing'}")
    except TimeoutError as error:
        raise SandboxError(f"the sandbox was not ready within {READY_WITHIN:g} s") from error
    try:
        ready: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise SandboxError("the sandbox said something that is not JSON when it should be ready") from error
    return ready


async def _listen(process: asyncio.subprocess.Process, words: deque[str]) -> None:
    """Keep the child's last words, and its pipe empty."""
    if process.stderr is None:
        return
    async for line in process.stderr:
        if text := line.decode(errors="replace").strip():
            words.append(text)


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask it to end by the end of its stdin; kill it where it does not."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_WITHIN):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _environment() -> dict[str, str]:
    """This environment, in which the child finds the prober where this process found it."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, _ROOT])} if _ROOT not in paths else {**os.environ}
