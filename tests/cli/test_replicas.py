"""Two ``prober serve`` on one PostgreSQL: one is killed, one is stopped for a while, and the other goes on."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from prober.sandbox.launch import SandboxProcess, start_sandbox
from tests.cli.console import PATIENCE, Console, Running, changed
from tests.cli.test_serve import Served, served
from tests.servers.postgresql import Postgresql
from tests.servers.prometheus import prometheus

SCENARIO = """
name: steady
description: An alert every second, with more time than any machine needs.
publication: {{kind: alert, priority: critical, content: alert}}
channels: [email, slack, discord]
within: 10m
give_up: 20m
schedule: {{every: {every}}}
"""
DELIVERED = 'prober_deliveries_total{outcome="delivered"}'


STOPPED = 150.0
"""Seconds that a take-over may take, and what follows from it: who is stopped while it writes is cut off by PostgreSQL
after 30 s, and a push that only the stopped one got is found by a read that comes once a minute."""


def schedule(console: Console, every: str) -> None:
    (console.folder / "scenarios").mkdir(exist_ok=True)
    console.write("scenarios/steady.yaml", SCENARIO.format(every=every))


@asynccontextmanager
async def replica(console: Console) -> AsyncIterator[Served]:
    """One more process, once it is ready. What it logs is read as it comes: a full pipe would hold it up."""
    async with served(console) as service:
        reading = asyncio.create_task(read(service.running))
        try:
            await service.until_ready()
            yield service
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def read(running: Running) -> None:
    assert running.process.stderr is not None
    async for line in running.process.stderr:
        running.seen.append(line.decode())


async def reload(service: Served) -> None:
    async def reloaded() -> bool:
        return any('"action": "reloaded"' in line for line in service.running.seen)

    service.running.send(signal.SIGHUP)
    await until(reloaded)


async def held_here(service: Served) -> set[str]:
    """The observers that this replica reads."""
    _, told = await service.get("/api/v1/observers")
    return {one["name"] for one in json.loads(told)["observers"] if one["held_here"]}


async def until(true: Callable[[], Awaitable[bool]], within: float = PATIENCE) -> None:
    """Ask until it is so."""
    async with asyncio.timeout(within):
        while True:
            if await true():
                return
            await asyncio.sleep(0.1)


async def holder_of(observers: set[str], *services: Served) -> Served:
    """The replica that reads them all, once one does."""
    found: list[Served] = []

    async def held() -> bool:
        found[:] = [service for service in services if await held_here(service) == observers]
        return bool(found)

    await until(held, STOPPED)
    return found[0]


async def totals(service: Served) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every counter and every histogram."""
    _, page = await service.get("/metrics")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if family.type in {"counter", "histogram"}
    }


async def all_delivered(service: Served, world: SandboxProcess) -> int:
    """Wait until all that was asked for is visible and delivered, once each; returns how much that is."""
    said: dict[str, object] = {}

    async def delivered() -> bool:
        asked = Counter(one["probe"] for one in await control.publications() if one["action"] == "POST /alerts")
        shown = Counter((one.publication_id, one.channel) for one in await control.truth() if one.publication_id)
        number = await service.value("prober_deliveries_total", outcome="delivered")
        said.update(asked=len(asked), shown=len(shown), delivered=number)
        assert set(asked.values()) == {1}, "a probe is published twice"
        assert set(shown.values()) <= {1}
        return len(shown) == 3 * len(asked) == number

    async with world.control() as control:
        try:
            await until(delivered, STOPPED)
        except TimeoutError:
            raise AssertionError(f"not everything is delivered: {said}") from None
    return int(str(said["shown"]))


@pytest.mark.timeout(600)
async def test_replicas_take_over_and_count_once(console: Console, postgresql_server: Postgresql) -> None:
    """kill -9 of the one that observes, then a stop of the next: nothing is lost, published or counted twice."""
    async with start_sandbox() as world:
        console.write("prober.yaml", changed(world, ("ledger", postgresql_server.database())))
        observers = set(world.configuration["observers"])
        schedule(console, "1s")
        async with replica(console) as one, replica(console) as two:
            assert [(await each.get(f"/-/{what}"))[0] for each in (one, two) for what in ("healthy", "ready")] == [
                200
            ] * 4
            await two.until(lambda value: value >= 3, "prober_deliveries_total", outcome="delivered")
            dead = await holder_of(observers, one, two)
            dead.running.send(signal.SIGKILL)
            await dead.running.process.wait()
            left = two if dead is one else one
            await holder_of(observers, left)
            async with replica(console) as three:
                stopped = await holder_of(observers, left, three)
                other = three if stopped is left else left
                stopped.running.send(signal.SIGSTOP)
                try:
                    await holder_of(observers, other)
                finally:
                    stopped.running.send(signal.SIGCONT)
                schedule(console, "1h")
                await reload(left)
                await reload(three)
                assert f"read by {socket.gethostname()}" in (await left.get("/"))[1]
                await equal_totals(left, three, await all_delivered(left, world))


async def equal_totals(two: Served, three: Served, delivered: int) -> None:
    """Both say the same, and Prometheus counts it once."""

    async def equal() -> bool:
        return await totals(two) == await totals(three)

    async def scraped() -> bool:
        count = f"count(count by (instance) ({DELIVERED}))"
        return await asyncio.to_thread(server.sum, count) == 2

    await until(equal)
    assert len(await totals(two)) > 50
    assert await two.value("prober_copies_total") == 0
    assert await two.value("prober_timeliness_total", verdict="on_time") == delivered
    for verdict in ("overdue", "early", "ambiguous"):
        assert await two.value("prober_timeliness_total", verdict=verdict) == 0
    scraping = {
        "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
        "scrape_configs": [
            {"job_name": "prober", "static_configs": [{"targets": [f"127.0.0.1:{each.port}" for each in (two, three)]}]}
        ],
    }
    with prometheus(scraping) as server:
        await until(scraped)
        assert server.sum(f"sum({DELIVERED})") == 2 * delivered
        assert server.sum(f"sum(max without (instance, pod) ({DELIVERED}))") == delivered
