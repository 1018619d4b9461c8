"""What ``prober run`` says of a target that does not do as it should: one clear line, the right exit code."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from pathlib import Path

import pytest

from prober.sandbox.launch import SandboxProcess
from tests.cli.console import Console, Ended, changed
from tests.conformance.scripted_api import free_port, raw_server, whole_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

BOUNDS = ("--within", "2s", "--give-up", "3s")


async def run_at(url: str, world: SandboxProcess, console: Console, *changes: tuple[str, object]) -> Ended:
    """One probe at a target of this URL, with the world's observers."""
    config = console.write("prober.yaml", changed(world, ("target.url", url), *changes))
    return await console.run("run", "alert-latency", *BOUNDS, "--config", config, "--ledger", "ledger.sqlite")


def closing(ended: Ended) -> str:
    """The last paragraph: the result in one sentence, unwrapped."""
    return " ".join(ended.out.rstrip().rpartition("\n\n")[2].split())


def says(ended: Ended, code: int, word: str, *parts: str) -> None:
    """It ended with the code, its last sentence has the word and the parts, and nothing was traced back."""
    assert ended.code == code, (ended.out, ended.err)
    assert closing(ended).startswith(word)
    for part in parts:
        assert part in closing(ended)
    assert "Traceback" not in ended.out + ended.err
    assert ended.err == ""


class Asked:
    """The requests that a target got, each once it has come whole."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def read(self, reader: asyncio.StreamReader) -> None:
        self.lines.append((await whole_request(reader)).partition(b"\r\n")[0].decode())

    @property
    def published(self) -> int:
        """How many of them could have published something; a start also asks what the target lists."""
        return sum(not line.startswith("GET ") for line in self.lines)


def answer(status: str, body: object) -> bytes:
    content = json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


async def test_connection_refused(world: SandboxProcess, console: Console) -> None:
    """A target at whose port nobody listens is unreachable: the run fails."""
    ended = await run_at(f"http://127.0.0.1:{await free_port()}/v1", world, console)
    says(
        ended, 1, "FAIL", "publication did not reach the target", "Connect call failed", "3 of 3 deliveries unanswered"
    )


async def test_a_wrong_token(world: SandboxProcess, console: Console) -> None:
    """A target that does not know the token refuses: the run fails and repeats its words."""
    url = str(world.configuration["target"]["url"])
    ended = await run_at(url, world, console, ("target.token", "no-such-token"))
    says(ended, 1, "FAIL", "publication refused (401", "3 of 3 deliveries refused")


async def test_a_target_channel_that_the_target_does_not_know(world: SandboxProcess, console: Console) -> None:
    """A request that the target finds wrong is refused, with its status and its reason."""
    asked = Asked()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked.read(reader)
        writer.write(answer("422 Unprocessable Entity", {"detail": "unknown channel"}))
        await writer.drain()

    async with raw_server(talk) as raw:
        ended = await run_at(f"http://{raw.origin}/v1", world, console)
    says(ended, 1, "FAIL", "publication refused (422", "unknown channel")
    assert asked.published == 1


async def test_a_target_that_fails(world: SandboxProcess, console: Console) -> None:
    """A 5xx is asked once, watched to the horizon, and fails the run as unanswered."""
    asked = Asked()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked.read(reader)
        writer.write(answer("503 Service Unavailable", {"detail": "database is down"}))
        await writer.drain()

    async with raw_server(talk) as raw:
        ended = await run_at(f"http://{raw.origin}/v1", world, console)
    says(ended, 1, "FAIL", "publication failed (503", "3 of 3 deliveries unanswered")
    assert asked.published == 1


async def test_a_target_that_hangs(world: SandboxProcess, console: Console) -> None:
    """A target that accepts and never answers is timed out, asked once, and fails the run."""
    asked = Asked()

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asked.read(reader)
        await reader.read()

    async with raw_server(talk) as raw:
        ended = await run_at(f"http://{raw.origin}/v1", world, console, ("target.timeout", "500ms"))
    says(ended, 1, "FAIL", "publication timed out", "3 of 3 deliveries unanswered")
    assert asked.published == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate that nobody vouches for."""
    path = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", path / "key.pem", "-out", path / "own.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


async def test_a_certificate_that_nobody_vouches_for(
    world: SandboxProcess, console: Console, certificate: Path
) -> None:
    """TLS that fails is the target's fault, and the line says what is wrong with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "own.pem", certificate / "key.pem")

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with raw_server(talk, context) as raw:
        ended = await run_at(f"https://{raw.origin.replace('127.0.0.1', 'localhost')}/v1", world, console)
    says(ended, 1, "FAIL", "publication did not reach the target", "certificate")


async def test_a_name_that_cannot_be_resolved(world: SandboxProcess, console: Console) -> None:
    """A name that we cannot resolve is a fault of our own: void, and the line names it."""
    ended = await run_at("http://target.invalid/v1", world, console)
    says(ended, 4, "VOID", "a fault of our own", "target.invalid cannot be resolved", "void (own_fault)")
