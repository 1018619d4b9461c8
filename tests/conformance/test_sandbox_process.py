"""The sandbox as a child process: it starts, speaks every protocol, tells the truth, and ends with its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from prober.errors import SandboxError
from prober.sandbox.launch import SandboxProcess, start_sandbox
from prober.sandbox.remote import Arrival, SandboxControl

CONTENT_ID = "3f0c1a52-6a57-4a5e-9d5e-0a1b2c3d4e5f"
ROOT = Path(__file__).resolve().parents[2]


async def create_alert(sandbox: SandboxProcess, *channels: str) -> tuple[int, str]:
    """The answer's status and the alert's id."""
    target, places = sandbox.configuration["target"], sandbox.configuration["channels"]
    body = {
        "content_id": CONTENT_ID,
        "channels": [places[channel]["target_channel"] for channel in channels],
        "priority": "critical",
    }
    headers = {"Authorization": f"Bearer {target['token']}", "Idempotency-Key": "probe-1"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(f"{target['url']}/alerts", json=body) as response,
    ):
        said = await response.json()
        return response.status, (said.get("data") or {}).get("id", "")


async def eventually(control: SandboxControl, enough: Callable[[tuple[Arrival, ...]], bool]) -> tuple[Arrival, ...]:
    """The truth as soon as it is enough."""
    async with asyncio.timeout(60):
        while True:
            truth = await control.truth()
            if enough(truth):
                return truth


async def test_one_alert_becomes_visible_everywhere_and_the_truth_says_whose_it_is() -> None:
    """Every channel shows the alert; the truth names its publication and brackets the moment."""
    async with start_sandbox() as sandbox, sandbox.control() as control:
        status, alert = await create_alert(sandbox, "email", "email-2", "slack", "discord")
        assert status == 201
        truth = await eventually(control, lambda seen: len(seen) == 4)
        assert {one.channel for one in truth} == {"email", "email-2", "slack", "discord"}
        assert {one.publication_id for one in truth} == {alert}
        assert all(one.visible.before.boottime <= one.visible.after.boottime for one in truth)
        (request,) = await control.publications()
        assert (request["idempotency_key"], request["publication_id"], request["effect"]) == ("probe-1", alert, True)


async def test_it_starts_and_stops_quickly() -> None:
    """Started and stopped again within seconds even on a busy machine, and nothing of it is left."""
    begun = time.monotonic()
    async with start_sandbox() as sandbox:
        ready = time.monotonic()
        assert sandbox.alive
    ended = time.monotonic()
    assert ready - begun < 10
    assert ended - ready < 1.5
    assert not sandbox.alive


async def test_two_worlds_share_no_identity() -> None:
    """Every address, channel and id of a new world is new."""
    async with start_sandbox() as first, start_sandbox() as second:
        for name, channel in first.configuration["channels"].items():
            other = second.configuration["channels"][name]
            assert channel["address"] != other["address"]
            assert channel["target_channel"] != other["target_channel"]
        assert first.world_id in first.configuration["channels"]["email"]["address"]


@pytest.mark.parametrize(
    ("weather", "dialect", "said"),
    [("no-such-weather", "documented", "no-such-weather"), (None, "doc", "documented")],
)
async def test_a_wrong_option_is_said(weather: str | None, dialect: str, said: str) -> None:
    """A sandbox that cannot start raises SandboxError with the child's last words."""
    with pytest.raises(SandboxError, match=said):
        async with start_sandbox(weather, dialect):
            pass


async def test_a_bad_weather_file_is_named_with_its_line(tmp_path: Path) -> None:
    """The error of a weather file reaches the caller with file and line."""
    path = tmp_path / "w.yaml"
    path.write_text("seed: 1\nchannels:\n  slak: {loss: 1}\n")
    with pytest.raises(SandboxError, match=r"w\.yaml:3: channels\.slak.*'slack'"):
        async with start_sandbox(path):
            pass


async def test_the_control_api_needs_its_token() -> None:
    """Without the bearer token nothing of the truth is told, and nothing can be changed."""
    async with start_sandbox() as sandbox, SandboxControl(sandbox.control_url, "wrong") as control:
        for call in (control.truth(), control.set_weather({}), control.drop("slack")):
            with pytest.raises(SandboxError, match="401"):
                await call


async def test_the_weather_changes_while_it_runs() -> None:
    """A weather set later holds for the next message; a wrong one is refused and changes nothing."""
    async with start_sandbox() as sandbox, sandbox.control() as control:
        await control.set_weather({"channels": {"slack": {"loss": 1}}})
        with pytest.raises(SandboxError, match="did you mean 'slack'"):
            await control.set_weather("channels: {slak: {loss: 0}}")
        await create_alert(sandbox, "slack", "discord")
        (one,) = await eventually(control, lambda seen: len(seen) > 0)
        assert one.channel == "discord"


@pytest.mark.parametrize("server", ["email", "slack", "discord"])
async def test_an_outage_closes_the_port_and_its_end_brings_what_was_sent(server: str) -> None:
    """While a server is out its port refuses; what is sent meanwhile becomes visible when it is back."""
    async with start_sandbox() as sandbox, sandbox.control() as control:
        port = port_of(sandbox.configuration, server)
        await control.outage(server)
        assert not await connects(port)
        await create_alert(sandbox, server)
        assert not await control.truth()
        await control.outage(server, False)
        assert await connects(port)
        (one,) = await eventually(control, lambda seen: len(seen) > 0)
        assert one.channel == server


async def test_an_api_outage_refuses_connections() -> None:
    """An outage of the API is a refused connection, not an answer."""
    async with start_sandbox() as sandbox, sandbox.control() as control:
        await control.outage("api")
        with pytest.raises(aiohttp.ClientConnectorError):
            await create_alert(sandbox, "slack")
        await control.outage("api", False)
        assert (await create_alert(sandbox, "slack"))[0] == 201


async def test_a_window_opens_by_itself(tmp_path: Path) -> None:
    """An outage window that begins with the world closes the port before the sandbox says that it is ready."""
    path = tmp_path / "w.yaml"
    path.write_text("windows: [{from: 0s, to: 1h, channels: {slack: {outage: true}}}]\n")
    async with start_sandbox(path) as sandbox:
        assert not await connects(port_of(sandbox.configuration, "slack"))
        assert await connects(port_of(sandbox.configuration, "discord"))


async def test_copies_and_junk_reach_the_mailbox(tmp_path: Path) -> None:
    """A copy is a second message of the same publication, and junk lies in the junk folder."""
    path = tmp_path / "w.yaml"
    path.write_text("channels: {email: {copies: 1, junk: 1}}\n")
    async with start_sandbox(path) as sandbox, sandbox.control() as control:
        _, alert = await create_alert(sandbox, "email")
        truth = await eventually(control, lambda seen: len(seen) == 2)
        assert {one.publication_id for one in truth} == {alert}
        assert len({one.visible.message_id for one in truth}) == 2
        assert all(one.visible.message_id.startswith("Junk/") for one in truth)


async def test_a_mailbox_that_is_not_there_fails_the_publication() -> None:
    """The mail server's final no is what the publishing system says of the channel."""
    async with start_sandbox() as sandbox:
        target = sandbox.configuration["target"]
        channel = sandbox.configuration["channels"]["email"]["target_channel"]
        headers = {"Authorization": f"Bearer {target['token']}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            body: dict[str, Any] = {"email": "nobody@elsewhere.example", "preferred_channels": [channel]}
            async with session.post(f"{target['url']}/subscribers", json=body) as answer:
                assert answer.status == 201
            body = {"channels": [channel], "publication_type": "manual", "content_ids": [CONTENT_ID]}
            async with session.post(f"{target['url']}/publications", json=body) as answer:
                said = (await answer.json())["data"]
            async with asyncio.timeout(60):
                while said["status"] == "processing":
                    async with session.get(f"{target['url']}/publications/{said['id']}") as answer:
                        said = (await answer.json())["data"]
        assert said["status"] == "failed"
        assert said["channel_results"][channel]["error_message"] == "the mailbox is not there"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_on_a_signal(number: signal.Signals) -> None:
    """By itself the sandbox ends cleanly on SIGTERM and on Ctrl-C."""
    command = [sys.executable, "-m", "prober.sandbox"]
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, stdout=pipe, env=environment(), limit=1_000_000)
    assert child.stdout is not None
    assert "world_id" in json.loads(await child.stdout.readline())
    child.send_signal(number)
    async with asyncio.timeout(60):
        assert await child.wait() == 0


async def test_it_dies_with_its_parent() -> None:
    """A parent that is killed takes its sandbox with it."""
    script = (
        "import asyncio, sys\n"
        "from prober.sandbox.launch import start_sandbox\n"
        "async def main():\n"
        "    async with start_sandbox() as sandbox:\n"
        "        print(sandbox.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=pipe, env=environment())
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    gone = ended(pid)
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(60):
        await gone


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def ended(pid: int) -> asyncio.Future[None]:
    """Done when the process, which need not be a child, has ended."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    descriptor = os.pidfd_open(pid)

    def end() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        future.set_result(None)

    loop.add_reader(descriptor, end)
    return future


def port_of(configuration: Mapping[str, Any], server: str) -> int:
    if server == "email":
        return int(configuration["observers"]["mailbox-1"]["port"])
    return int(configuration["observers"][server]["api_url"].split(":")[2].split("/")[0])


async def connects(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
