"""Programs of Debian that tests start: on loopback, in a temporary folder, ended by their process only."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

HOST = "127.0.0.1"
PATIENCE = 120.0
"""Seconds within which a server must have started, or ended."""

_SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/lib/postfix/sbin"])


def program(name: str, package: str) -> str:
    """The path of a program. The test fails with its Debian package where it is missing."""
    found = shutil.which(name, path=_SYSTEM_PATH)
    if found is None:
        pytest.fail(f"{name} is not installed (Debian: apt-get install {package})", pytrace=False)
    return found


def need_root(name: str) -> None:
    """The test fails where a server that gives up its rights has none to give up."""
    if os.geteuid() != 0:
        pytest.fail(f"{name} can only be started by root: run the tests as root", pytrace=False)


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as place:
        place.bind((HOST, 0))
        return int(place.getsockname()[1])


@contextlib.contextmanager
def short_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder that other users may enter, with a path short enough for UNIX sockets."""
    with tempfile.TemporaryDirectory(prefix=f"{prefix}-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextlib.contextmanager
def running(command: Sequence[str | Path], ready: Callable[[], bool], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in the foreground from when it is ready; ends it, and only it, afterwards.

    ``log`` is what a failure to start shows.
    """
    output = log.with_suffix(".output")
    with output.open("wb") as out:
        process = subprocess.Popen(
            [*map(str, command)], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        if not wait_until(lambda: process.poll() is not None or ready()) or process.poll() is not None:
            told = "\n".join(path.read_text(errors="replace")[-4000:] for path in (log, output) if path.exists())
            pytest.fail(f"{command[0]} does not start:\n{told}", pytrace=False)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(true: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Look again and again at something that nothing announces; False when it has not come true in time."""
    end, pause = time.monotonic() + seconds, threading.Event()
    while not true():
        if time.monotonic() > end:
            return False
        pause.wait(0.02)
    return True


def listens(port: int) -> bool:
    """Whether somebody listens on a loopback port."""
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex((HOST, port)) == 0
