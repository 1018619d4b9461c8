"""``prober serve`` as an operator runs it: scraped by Prometheus, killed, reloaded, stopped."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from prober.clean_up import Retention
from prober.ledger.ledger import Ledger
from prober.ledger.retention import remove_old
from prober.sandbox.launch import SandboxProcess, start_sandbox
from tests.cli.console import PATIENCE, Console, Running, changed
from tests.servers.programs import free_port
from tests.servers.prometheus import prometheus

TOKEN = "a token that only the operator knows"
SCENARIO = """
name: {name}
description: An alert every second.
publication: {{kind: alert, priority: critical, content: alert}}
channels: [{channels}]
within: {within}
give_up: 60s
schedule: {{every: {every}}}
"""


@dataclass
class Served:
    """A service that runs, and where its site is."""

    running: Running
    port: int

    async def get(self, path: str, **headers: str) -> tuple[int, str]:
        return await self._ask("GET", path, headers)

    async def post(self, path: str, **headers: str) -> tuple[int, str]:
        return await self._ask("POST", path, headers)

    async def value(self, name: str, **labels: str) -> float | None:
        """The sum of the series of this name that have these labels, None without any."""
        _, page = await self.get("/metrics")
        found = [
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found) if found else None

    async def until(self, true: Callable[[float], bool], name: str, **labels: str) -> float:
        """Wait until the value is as wanted."""
        async with asyncio.timeout(PATIENCE):
            while True:
                value = await self.value(name, **labels)
                if value is not None and true(value):
                    return value
                await asyncio.sleep(0.05)

    async def until_ready(self) -> None:
        """Wait until every observer has looked."""
        async with asyncio.timeout(PATIENCE):
            while True:
                status, _ = await self.get("/-/ready")
                if status == 200:
                    return
                await asyncio.sleep(0.05)

    async def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://127.0.0.1:{self.port}{path}", headers=headers) as answer,
        ):
            return answer.status, await answer.text()


def scenarios(
    console: Console,
    every: str = "1s",
    within: str = "30s",
    *,
    name: str = "steady",
    channels: str = "email, slack, discord",
) -> None:
    folder = console.folder / "scenarios"
    folder.mkdir(exist_ok=True)
    text = SCENARIO.format(name=name, every=every, within=within, channels=channels)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


@asynccontextmanager
async def served(console: Console, *more: str, port: int = 0) -> AsyncIterator[Served]:
    arguments = ("serve", "--scenarios", "scenarios", "--listen", f"127.0.0.1:{port}", *more)
    async with console.start(*arguments) as running:
        line = await running.until_told('"action": "serving"')
        yield Served(running, int(json.loads(line)["address"].rpartition(":")[2].strip("/")))


def configure(console: Console, world: SandboxProcess, *changes: tuple[str, object]) -> None:
    console.write("prober.yaml", changed(world, ("ledger", str(console.folder / "ledger.sqlite")), *changes))


def as_deployed(port: int) -> dict[str, Any]:
    """How the shipped configuration of Prometheus has a service scraped, in more of a hurry."""
    folder = Path(__file__).parents[2] / "deploy/prometheus"
    shipped: dict[str, Any] = yaml.safe_load((folder / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = [job for job in shipped["scrape_configs"] if job["job_name"] == "prober"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    # Not in too much of one: a scrape that a busy machine does not answer in time takes every series away.
    return {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]}


@pytest.mark.timeout(180)
async def test_prometheus_scrapes_through_a_kill(world: SandboxProcess, console: Console) -> None:
    """As deploy/ has it scraped: series exist at 0 before the first probe, the 30 s bound is exact, exemplars carry the
    trace id, and counters keep their history when the service is killed and old probes leave the ledger."""
    configure(console, world)
    scenarios(console, every="1h")
    port = free_port()
    scraping = as_deployed(port)
    began = time.time()
    delivered = 'sum(max without (instance, pod) (prober_deliveries_total{outcome="delivered"}))'
    with prometheus(scraping) as server:

        async def until(expression: str, least: float) -> float:
            async with asyncio.timeout(PATIENCE):
                while True:
                    value = await asyncio.to_thread(server.sum, expression)
                    if value is not None and value >= least:
                        return value
                    await asyncio.sleep(0.1)

        async with served(console, port=port) as service:
            assert await until(delivered, 0) == 0
            assert await until('count(prober_delivery_latency_seconds_bucket{le=~"30(\\\\.0)?"})', 3) == 3
            scenarios(console, every="1s")
            service.running.send(signal.SIGHUP)
            await service.until_ready()
            assert (await service.get("/"))[0] == 200
            await until("sum(max without (instance, pod) (prober_journeys_total))", 1)
            before = await until(delivered, 3)
            service.running.send(signal.SIGKILL)
            await service.running.ended()
        async with Ledger(str(console.folder / "ledger.sqlite")) as ledger:
            location = world.configuration.get("location", "local")
            assert (await ledger.write(remove_old, location, Retention(0, 0), time.time())).probes >= 1
        async with served(console, port=port):
            await until(delivered, before + 3)
        for name in ("deliveries_total", "publish_requests_total", "delivery_latency_seconds_bucket"):
            assert await until(f"sum(resets(prober_{name}[5m]))", 0) == 0
        found = await asyncio.to_thread(
            server.exemplars, "prober_delivery_latency_seconds_bucket", began, time.time() + 60
        )
        assert found
        assert all(len(one["labels"]["trace_id"]) == 32 for one in found)
        latency = "prober_delivery_latency_seconds"
        assert await until(f'sum({latency}_bucket{{le=~"30(\\\\.0)?"}}) - sum({latency}_count)', -1) == 0


async def test_an_outage_makes_the_rule_fire(console: Console) -> None:
    """Slack loses everything: the generated rules, on what was scraped, page for Slack and for nothing else."""
    async with start_sandbox(console.write("weather.yaml", "channels: {slack: {loss: 1.0}}\n")) as world:
        configure(console, world, ("environment", "staging"))  # rules leave the sandbox's own environment out
        scenarios(console, every="1s", within="10s")
        port = free_port()
        rules = await console.run("rules", "--scenarios", "scenarios")
        scraping = {
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
            "rule_files": [console.write("rules.yml", rules.out.replace("interval: 30s", "interval: 1s"))],
            "scrape_configs": [{"job_name": "prober", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
        }
        with prometheus(scraping) as server:

            async def firing(alert: str) -> set[str]:
                """The channels for which it fires, once it does for any."""
                query = f'sum by (channel) (ALERTS{{alertstate="firing",alertname="{alert}"}})'
                while True:
                    if found := await asyncio.to_thread(server.query, query):
                        return {dict(labels).get("channel", "") for labels in found}
                    await asyncio.sleep(0.1)

            async with served(console, port=port), asyncio.timeout(PATIENCE):
                await firing("ProberWatchdog")
                assert server.sum('ALERTS{alertname="ProberAlertsSlow"}') is None
                assert await firing("ProberAlertsSlow") == {"slack"}


async def test_reload_takes_a_right_file_and_leaves_a_wrong_one(world: SandboxProcess, console: Console) -> None:
    """A wrong file leaves the old one in force and shows in a metric; the token guards the request."""
    configure(console, world, ("serve", {"token": TOKEN}))
    scenarios(console, every="1h")
    async with served(console) as service:
        await service.until_ready()
        assert await service.value("prober_config_last_reload_successful") == 1
        assert (await service.post("/-/reload"))[0] == 401
        assert (await service.post("/-/reload", Authorization="Bearer wrong"))[0] == 401
        scenarios(console, every="never")
        status, words = await service.post("/-/reload", Authorization=f"Bearer {TOKEN}")
        assert status == 400
        assert "steady.yaml:8: schedule.every: 'never' is no duration" in words
        assert await service.value("prober_config_last_reload_successful") == 0
        assert (await service.get("/-/healthy"))[0] == 200
        scenarios(console, every="1h")
        scenarios(console, every="1h", within="7s", name="another")
        assert (await service.post("/-/reload", Authorization=f"Bearer {TOKEN}"))[0] == 200
        assert await service.value("prober_config_last_reload_successful") == 1
        assert await service.value("prober_slots_total", scenario="another") == 0
        assert await service.value("prober_delivery_latency_seconds_bucket", scenario="another", le="7.0") == 0
        service.running.send(signal.SIGTERM)
        assert (await service.running.ended()).code == 0


async def test_other_observers_are_taken_over_by_a_reload(world: SandboxProcess, console: Console) -> None:
    """A reload that changes what we connect to drains and goes on with the new connections."""
    configure(console, world)
    scenarios(console)
    async with served(console) as service:
        await service.until(lambda value: value >= 3, "prober_deliveries_total", outcome="delivered")
        configure(console, world, ("observers.slack.bot_token", "xoxb-wrong"))
        service.running.send(signal.SIGHUP)
        await service.until(lambda value: value == 0, "prober_observer_up", observer="slack")
        configure(console, world)
        service.running.send(signal.SIGHUP)
        await service.until(lambda value: value == 1, "prober_observer_up", observer="slack")
        assert await service.value("prober_timeliness_total", verdict="overdue") == 0


async def test_probe_answers_at_once_with_the_latest_result(world: SandboxProcess, console: Console) -> None:
    """``/probe`` starts nothing: an unknown module is 400, a known one tells the latest settled result and its age."""
    configure(console, world)
    scenarios(console)
    async with served(console) as service:
        status, words = await service.get("/probe?module=stedy")
        assert (status, words) == (400, "module must name a scenario: steady\n")
        await service.until(lambda value: value >= 3, "prober_deliveries_total", outcome="delivered")
        status, page = await service.get("/probe?module=steady")
        values = {s.name: s.value for f in text_string_to_metric_families(page) for s in f.samples}
        assert status == 200
        assert values["probe_success"] == 1
        assert 0 < values["probe_duration_seconds"] < 30
        assert values["probe_timeout_seconds"] == 60
        assert 0 <= values["probe_result_age_seconds"] < 60
        status, told = await service.get("/api/v1/scenarios/steady/probes?limit=1")
        (probe,) = json.loads(told)["probes"]
        assert probe["scenario"] == "steady"
        assert (await service.get("/api/v1/scenarios/none/probes"))[0] == 404
        assert (await service.get("/api/v1/scenarios/steady/probes?limit=0"))[0] == 400
        assert (await service.get(f"/api/v1/probes/{probe['probe']}"))[0] == 200
        objectives = json.loads((await service.get("/api/v1/objectives"))[1])["objectives"]
        assert {one["name"]: one["ratio"] for one in objectives}["publish-availability"] == 1.0
        page = (await service.get("/metrics", Accept="application/openmetrics-text; version=1.0.0"))[1]
        families = openmetrics(page)  # type: ignore[no-untyped-call]
        assert any(sample.exemplar for family in families for sample in family.samples)


async def test_textfile_and_heartbeat(world: SandboxProcess, console: Console) -> None:
    """The textfile holds what /metrics shows; the dead man's switch hears of a healthy pass, and no log its URL."""
    heard = asyncio.Event()

    async def hear(_request: web.Request) -> web.Response:
        heard.set()
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/canary-secret", hear)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        beat = {"heartbeat": f"http://127.0.0.1:{port}/canary-secret", "heartbeat_every": "1s", "textfile": "p.prom"}
        configure(console, world, ("serve", beat))
        scenarios(console)
        async with served(console) as service:
            async with asyncio.timeout(PATIENCE):
                await heard.wait()
            await service.until(lambda value: value > 0, "prober_heartbeat_last_success_timestamp_seconds")
            service.running.send(signal.SIGTERM)
            ended = await service.running.ended()
        assert ended.code == 0
        assert "canary" not in ended.err + ended.out + "".join(service.running.seen)
        assert 'prober_slots_total{environment="sandbox",location="local",scenario="steady"' in console.read("p.prom")
    finally:
        await runner.cleanup()


@pytest.mark.timeout(300)
async def test_read_only_shows_what_others_put_on_record(world: SandboxProcess, console: Console) -> None:
    """It needs neither target nor ledger's write lock, changes nothing, and shows each new fact without a restart."""
    configure(console, world)
    scenarios(console, channels="email")  # a tick reads mail every second, and the chat services every few
    assert (await console.run("tick", "--scenarios", "scenarios")).code == 0
    console.write("others.yaml", console.read("prober.yaml"))
    configure(
        console, world, ("target", None), ("serve", {"heartbeat": "http://127.0.0.1:9/", "heartbeat_every": "1s"})
    )
    async with served(console, "--read-only") as service:
        await service.until_ready()
        assert (await service.get("/-/healthy"))[0] == 200
        assert await service.value("prober_deliveries_total", outcome="delivered") == 1
        assert "kept the promise the last time" in (await service.get("/"))[1]
        assert (await console.run("tick", "--scenarios", "scenarios", "--config", "others.yaml")).code == 0
        assert await service.value("prober_deliveries_total", outcome="delivered") == 2
        assert await service.value("prober_publish_requests_total", result="accepted") == 2
        service.running.send(signal.SIGTERM)
        ended = await service.running.ended()
    assert ended.code == 0
    assert "heartbeat_failed" not in "".join(service.running.seen) + ended.err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--sandbox"], "--read-only: nobody else fills the embedded sandbox's ledger (leave out --sandbox"),
        (["--ledger", "none.sqlite"], "ledger none.sqlite: no such file"),
    ],
)
async def test_read_only_needs_a_ledger_of_others(
    world: SandboxProcess, console: Console, more: list[str], words: str
) -> None:
    """Where nobody fills it there is nothing to show, and that is said at once."""
    configure(console, world)
    ended = await console.run("serve", "--read-only", *more)
    assert ended.code == 2
    assert words in ended.err


@pytest.mark.parametrize("listen", ["9464", "127.0.0.1:99999", ":9464"])
async def test_wrong_address_is_told(world: SandboxProcess, console: Console, listen: str) -> None:
    """An address that is none exits 2 before anything starts."""
    configure(console, world)
    ended = await console.run("serve", "--listen", listen)
    assert ended.code == 2
    assert f"--listen: {listen!r} is no address (write HOST:PORT, such as 127.0.0.1:9464)" in ended.err


async def test_without_a_target_it_refuses(console: Console) -> None:
    """A lost configuration is no reason to probe the sandbox."""
    ended = await console.run("serve")
    assert ended.code == 2
    assert "prober.yaml" in ended.err
    assert "Traceback" not in ended.err
