"""Every secret of a configuration is a canary: whatever happens, none is ever seen outside of it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import pytest

from prober.config import dump_configuration
from prober.sandbox.launch import SandboxProcess
from tests.cli.console import Console, Ended, changed
from tests.conformance.scripted_api import free_port, raw_server, whole_request

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRETS = ("keys.0.secret", "target.token", "observers.mailbox-1.password", "observers.mailbox-2.password",
           "observers.slack.bot_token", "observers.slack.app_token", "observers.discord.token")  # fmt: skip
"""Where secrets stand. The world's own are random and unlike anything else, so each of them is a canary."""

FAKE = {place: f"xoxb-canary-{number}-tweet-tweet" for number, place in enumerate(SECRETS)}
LOUD = {"PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1", "PYTHONWARNINGS": "default"}


def at(configuration: Any, place: str) -> Any:
    for part in place.split("."):
        configuration = configuration[int(part) if isinstance(configuration, list) else part]
    return configuration


def put(configuration: Any, place: str, value: Any) -> None:
    way, _, last = place.rpartition(".")
    at(configuration, way)[last] = value


def canaries(world: SandboxProcess) -> list[str]:
    return [*(str(at(world.configuration, place)) for place in SECRETS), *FAKE.values()]


def shapes(secret: str) -> Iterator[bytes]:
    """A secret as it may look where it has slipped out."""
    plain = secret.encode()
    yield from (plain, plain[::-1], plain.hex().encode(), quote(secret, safe="").encode(), repr(plain)[2:-1].encode())
    for shift in range(3):  # in base64 a text looks in three ways, by where it begins
        yield base64.b64encode(b"\0" * shift + plain)[4:-4]


def silent(console: Console, world: SandboxProcess, *ended: Ended) -> None:
    """None of the canaries is in what was written to the streams or to the ledger."""
    seen = [text.encode() for one in ended for text in (one.out, one.err)]
    files = [path for path in console.folder.rglob("*") if path.is_file() and "ledger" in path.name]
    seen += [path.read_bytes() for path in files]
    for secret in canaries(world):
        for shape in shapes(secret):
            assert not any(shape in text for text in seen), f"{secret} is seen"


def hidden(world: SandboxProcess, console: Console) -> tuple[str, dict[str, str]]:
    """The world's configuration with every secret by reference, in turn to a variable and to a file."""
    configuration = json.loads(json.dumps(world.configuration))
    environ = {}
    for number, place in enumerate(SECRETS):
        secret = str(at(configuration, place))
        if number % 2:
            environ[f"CANARY_{number}"] = secret
            put(configuration, place, f"${{env:CANARY_{number}}}")
        else:
            console.write(f"secret-{number}", secret + "\n")
            put(configuration, place, f"${{file:secret-{number}}}")
    return console.write("referring.yaml", dump_configuration(configuration)), environ


async def run(console: Console, config: str, *more: str, environ: Mapping[str, str] | None = None) -> Ended:
    return await console.run(
        "run", "alert-latency", "--config", config, "--ledger", "ledger.sqlite", "--within", "1s", "--give-up", "2s",
        *more, environ={**LOUD, **(environ or {})},
    )  # fmt: skip


@pytest.mark.parametrize("referring", [False, True], ids=["plain", "referring"])
async def test_no_canary_in_a_good_run(world: SandboxProcess, console: Console, referring: bool) -> None:
    """A run that passes, with all debugging on, its ledger and its evidence show no secret."""
    environ: dict[str, str] = {}
    config = console.write("prober.yaml", changed(world))
    if referring:
        config, environ = hidden(world, console)
    text, result = (
        await run(console, config, environ=environ),
        await run(console, config, "--output", "json", environ=environ),
    )
    assert (text.code, result.code) == (0, 0), text.err
    assert (console.folder / "ledger.sqlite").exists()
    probe = result.json["probes"][0]["probe"]
    look = ("show", probe, "--ledger", "ledger.sqlite", "--config", config)
    shown = [await console.run(*look, "-o", form, environ={**LOUD, **environ}) for form in ("text", "json")]
    listed = await console.run("list", "--config", config, environ={**LOUD, **environ})
    assert [one.code for one in (*shown, listed)] == [0, 0, 0]
    silent(console, world, text, result, *shown, listed)


@pytest.mark.parametrize("place", [place for place in SECRETS if not place.startswith("keys")])
async def test_no_canary_when_it_is_refused(world: SandboxProcess, console: Console, place: str) -> None:
    """A secret that is refused is never repeated: not by the refusal, nor in what is told about it."""
    configuration = json.loads(json.dumps(world.configuration))
    put(configuration, place, FAKE[place])
    config = console.write("prober.yaml", dump_configuration(configuration))
    ended = await run(console, config, "--max-time", "4s")
    assert ended.code in {0, 1, 3}, ended.err  # nobody asks the second mailbox; the blind one is not yet void
    silent(console, world, ended)


async def test_no_canary_from_a_target_that_tells_tales(world: SandboxProcess, console: Console) -> None:
    """A target that repeats our token in every part of its answer does not bring it into the evidence."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await whole_request(reader)).decode("latin-1")
        token = next(line for line in head.splitlines() if line.lower().startswith("authorization")).split()[-1]
        body = json.dumps({"title": token, "detail": f"no {head}", "correlation_id": token}).encode()
        writer.write(f"HTTP/1.1 403 {token}\r\nX-Correlation-ID: {token}\r\nContent-Type: application/json\r\n"
                     f"Content-Length: {len(body)}\r\n\r\n".encode() + body)  # fmt: skip
        await writer.drain()

    async with raw_server(talk) as raw:
        config = console.write("prober.yaml", changed(world, ("target.url", f"http://{raw.origin}/v1")))
        text, result = await run(console, config), await run(console, config, "-o", "json")
    assert (text.code, result.code) == (1, 1)
    shown = await console.run("show", result.json["probes"][0]["probe"], "--ledger", "ledger.sqlite")
    silent(console, world, text, result, shown)


async def test_no_canary_when_nothing_can_be_reached(world: SandboxProcess, console: Console) -> None:
    """Connections that fail in each way leave no secret in the words about them."""
    port = await free_port()
    changes: list[tuple[tuple[str, Any], ...]] = [
        (("target.url", f"http://127.0.0.1:{port}/v1"), ("observers.mailbox-1.port", port)),
        (("target.url", "http://target.invalid/v1"), ("observers.slack.api_url", f"http://127.0.0.1:{port}/api/")),
        (("target.url", f"https://127.0.0.1:{port}/v1"), ("observers.discord.api_url", f"http://127.0.0.1:{port}/v10")),
    ]
    for number, change in enumerate(changes):
        config = console.write(f"{number}.yaml", changed(world, *change))
        ended = await run(console, config, "--max-time", "4s")
        assert ended.code in {1, 4}, ended.err
        assert "Traceback" not in ended.err
        silent(console, world, ended)


async def test_no_canary_in_a_wrong_configuration(world: SandboxProcess, console: Console) -> None:
    """A configuration that is wrong in, beside or because of a secret is named without it."""
    text = changed(world)
    token = str(world.configuration["target"]["token"])
    wrong = [
        text.replace(f"token: {token}", f"token: [{token}]"),
        text.replace(f"token: {token}", f"token: '{token}"),
        text.replace(f"token: {token}", f"tokn: {token}"),
        text.replace(f"token: {token}", f"token: {{a: {token}}}"),
        text.replace("adapter: publishing_module", "adapter: ${env:CANARY}"),
        text.replace("environment: sandbox", "environment: '${env:CANARY} ${env:CANARY}'"),
        text.replace(f"token: {token}", f"token: ${{env:{token}"),
    ]
    configs = [console.write(f"{number}.yaml", one) for number, one in enumerate(wrong)]
    ended = await asyncio.gather(*(run(console, config, environ={"CANARY": token}) for config in configs))
    assert [one.code for one in ended] == [2] * len(wrong), ended
    assert not any("Traceback" in one.err for one in ended)
    silent(console, world, *ended)
