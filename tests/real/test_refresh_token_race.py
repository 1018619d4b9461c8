"""One refresh token file and several processes: a provider that replaces the token at each use refuses none of them."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from prober.acts import Acts
from prober.clock import SystemClock
from prober.errors import Unreadable
from prober.observers.imap_connection import Lifeline
from prober.observers.imap_settings import ImapSettings
from prober.observers.imap_tokens import Tokens
from prober.sandbox.token_endpoint import TokenEndpoint

ROUNDS = 15
SECRET = "canary-client-secret"

RENEWS = """
import sys
from prober.acts import Acts
from prober.clock import SystemClock
from prober.observers.imap_connection import Lifeline
from prober.observers.imap_settings import ImapSettings
from prober.observers.imap_tokens import Tokens

settings = ImapSettings.model_validate_json(sys.argv[1])
clock = SystemClock()
tokens = Tokens(settings, settings.oauth2, clock, Acts(clock))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    token, fetched = tokens.token(Lifeline())
    assert fetched
    tokens.reject(token)
"""


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    """Each refresh token serves once."""
    its = TokenEndpoint(SystemClock(), apps={"prober": (SECRET, "box")}, refresh_tokens={"first": "box"}, rotates=True)
    await its.start()
    yield its
    await its.stop()


def told_of(endpoint: TokenEndpoint, file: Path, timeout: float = 10.0) -> dict[str, Any]:
    """The mailbox as its part of the configuration has it."""
    oauth2 = {"grant": "refresh_token", "client_id": "prober", "client_secret": SECRET, "refresh_token_file": str(file),
              "token_url": endpoint.token_url}  # fmt: skip
    told = {"host": "imap.example", "username": "box", "oauth2": oauth2}
    return {**told, "connect_timeout": timeout, "read_timeout": timeout}


def open_files() -> list[str]:
    return [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]


def tokens_of(told: dict[str, Any]) -> Tokens:
    settings, clock = ImapSettings.model_validate(told), SystemClock()
    assert settings.oauth2 is not None
    return Tokens(settings, settings.oauth2, clock, Acts(clock))


async def test_two_processes_renew_one_after_another(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    """Whoever comes second renews with what the first one got: of all renewals none meets a used-up token."""
    file = tmp_path / "refresh-token"
    file.write_text("first\n", encoding="ascii")
    told = json.dumps(told_of(endpoint, file))
    pipes = asyncio.subprocess.PIPE
    both = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", RENEWS, told, str(ROUNDS), stdin=pipes, stdout=pipes, stderr=pipes
        )
        for _ in range(2)
    ]
    for process in both:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    ends = await asyncio.gather(*(process.communicate(b"go\n") for process in both))
    assert [process.returncode for process in both] == [0, 0], b"".join(said for _, said in ends).decode()
    assert len(endpoint.grants) == 2 * ROUNDS
    assert list(endpoint.refresh_tokens) == [file.read_text(encoding="ascii").strip()]
    assert (tmp_path / "refresh-token.lock").stat().st_mode & 0o777 == 0o600


async def test_a_lock_that_is_never_let_go_is_told(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    """Where another process hangs with the lock, a renewal fails in its time, and nothing is asked for; once the lock
    is free it goes on."""
    file = tmp_path / "refresh-token"
    file.write_text("first\n", encoding="ascii")
    tokens = tokens_of(told_of(endpoint, file, timeout=0.1))
    with (tmp_path / "refresh-token.lock").open("w", encoding="ascii") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Unreadable) as told:
            await asyncio.to_thread(tokens.token, Lifeline())
    assert told.value.reason == "login_refused"
    assert f"{file}.lock has been held by another process for 0.4 s; see whether one hangs" in told.value.detail
    assert endpoint.grants == []
    tokens = tokens_of(told_of(endpoint, file))
    _, fetched = await asyncio.to_thread(tokens.token, Lifeline())
    assert fetched


async def test_whoever_waits_for_the_lock_can_be_stopped(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    """A wait of an hour ends with its lifeline."""
    file = tmp_path / "refresh-token"
    file.write_text("first\n", encoding="ascii")
    tokens, lifeline = tokens_of(told_of(endpoint, file, timeout=900.0)), Lifeline()
    with (tmp_path / "refresh-token.lock").open("w", encoding="ascii") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = asyncio.ensure_future(asyncio.to_thread(tokens.token, lifeline))
        threading.Timer(0.1, lifeline.cut).start()
        with pytest.raises(Unreadable, match="stopped"):
            await waiting


async def test_a_lock_of_somebody_else_is_told(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    """What cannot be locked is not renewed, for the race would cost the account's consent."""
    file = tmp_path / "refresh-token"
    file.write_text("first\n", encoding="ascii")
    (tmp_path / "refresh-token.lock").mkdir()
    with pytest.raises(Unreadable, match=r"refresh-token.lock cannot be opened: .*; mend its permissions"):
        await asyncio.to_thread(tokens_of(told_of(endpoint, file)).token, Lifeline())
    assert endpoint.grants == []


async def test_no_descriptor_stays(endpoint: TokenEndpoint, tmp_path: Path) -> None:
    """The lock is let go after each renewal."""
    file = tmp_path / "refresh-token"
    file.write_text("first\n", encoding="ascii")
    tokens = tokens_of(told_of(endpoint, file))
    for _ in range(2):
        token, _ = await asyncio.to_thread(tokens.token, Lifeline())
        tokens.reject(token)
        assert not any(link.endswith("refresh-token.lock") for link in open_files())
