"""The sandbox's publishing API in bad weather: what fails, how it fails, and what comes of it all the same."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from prober.sandbox.boards import Posted
from tests.conformance.api_caller import BOTH, detail, running


@BOTH
@pytest.mark.parametrize(
    ("weather", "status", "made"),
    [("status: 503", 503, 0), ("error_rate: 1", 500, 0), ("accepted_but_500: 1", 500, 1)],
)
async def test_a_spoiled_answer(dialect: str, weather: str, status: int, made: int) -> None:
    """A 5xx is in the dialect's shape, and may hide that the publication was made all the same."""
    async with running(dialect, f"api: {{{weather}}}") as caller:
        got, said, _ = await caller.call("POST", "/publications", caller.publication("slack"))
        assert got == status
        assert detail(said)
        assert len(caller.sandbox.world.records) == made
        (request,) = caller.sandbox.world.requests
        assert (request.status, request.effect) == (status, bool(made))


@BOTH
async def test_a_reset_is_a_reset(dialect: str) -> None:
    """A reset connection gives no answer, and nothing comes of the request."""
    async with running(dialect, "api: {reset_rate: 1}") as caller:
        with pytest.raises(aiohttp.ClientConnectionError):
            await caller.call("POST", "/publications", caller.publication("slack"))
        assert not caller.sandbox.world.records


async def test_silence_takes_effect_and_ends_with_the_client() -> None:
    """A request that is never answered takes effect; stopping the API does not wait for it."""
    async with running(weather="api: {timeout_rate: 1}") as caller:
        arrivals: asyncio.Queue[Posted] = asyncio.Queue()
        caller.sandbox.board(caller.addresses["slack"]).watchers.append(arrivals)
        waiting = asyncio.ensure_future(caller.call("POST", "/publications", caller.publication("slack")))
        async with asyncio.timeout(60):
            await arrivals.get()
        assert not waiting.done()
        await caller.api.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await waiting
        assert len(caller.sandbox.world.records) == 1


async def test_a_connection_ends_without_warning_after_a_500_of_a_running_build() -> None:
    """The seen dialect drops the connection after a 500 but does not say so in its headers."""
    async with running("seen", "api: {error_rate: 1}") as caller:
        reader, writer = await asyncio.open_connection("127.0.0.1", caller.api.port)
        writer.write(b"GET /api/v1/ HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(60):
            said = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert said.startswith(b"HTTP/1.1 500")
        assert b"connection: close" not in said.lower()


async def test_a_message_may_be_visible_before_the_answer() -> None:
    """The workers do not wait for the API's slow answer."""
    weather = "{api: {latency: 300ms}, channels: {slack: {latency: 1ms}}}"
    async with running(weather=weather) as caller:
        await caller.call("POST", "/publications", caller.publication("slack"))
        answered = caller.sandbox.clock.now()
        (visible,) = caller.sandbox.truth
        assert answered.since(visible.after) > 0.1


async def test_an_outage_refuses_and_the_same_port_comes_back() -> None:
    """While it is suspended the API's port refuses; resumed, it is where it was."""
    async with running() as caller:
        url = caller.api.url
        await caller.api.suspend()
        with pytest.raises(aiohttp.ClientConnectorError):
            await caller.call("GET", "/")
        await caller.api.resume()
        assert caller.api.url == url
        assert (await caller.call("GET", "/"))[0] == 200
