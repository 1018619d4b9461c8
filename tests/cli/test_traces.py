"""Traces by OTLP/HTTP at a real receiver: of whatever probes, with and without a collector."""

from __future__ import annotations

import json
import signal
import sys
from datetime import datetime
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from prober.sandbox.launch import SandboxProcess
from tests.cli.console import Console, changed
from tests.cli.test_serve import configure, scenarios, served
from tests.collector import Collector, Span, attributes, collecting
from tests.servers.programs import free_port

pytestmark = pytest.mark.asyncio(loop_scope="session")

CANARY = "canary-of-the-collector-tweet"
QUICK = ("--within", "5s", "--give-up", "10s", "--ledger", "ledger.sqlite", "--no-sweep")


def nanoseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e9)


def named(spans: list[Span], kind: int) -> dict[str, Span]:
    return {span.name: span for span in spans if span.kind == kind}


async def test_a_run_is_one_trace_at_the_collector(world: SandboxProcess, console: Console) -> None:
    """Ids, parents, links, times, status and attributes are those of the result, and the request that the target got
    names the very span of its step; headers by reference reach the collector and nothing else."""
    async with collecting() as collector:
        traces = {"endpoint": collector.url, "headers": {"x-tenant": "${env:COLLECTOR_TOKEN}"}}
        config = console.write("prober.yaml", changed(world, ("traces", traces)))
        ended = await console.run(
            "run", "alert-latency", "-o", "json", "-c", config, *QUICK, environ={"COLLECTOR_TOKEN": CANARY}
        )
    assert ended.code == 0, ended.err
    (probe,) = ended.json["probes"]
    spans = collector.of(probe["trace_id"])
    assert len(spans) == len(collector.spans) == 5
    (root,) = [span for span in spans if not span.parent_span_id]
    assert (root.name, root.kind, root.status.code) == ("probe alert-latency", Span.SPAN_KIND_INTERNAL, 0)
    assert {span.parent_span_id for span in spans} == {b"", root.span_id}
    (step,) = named(spans, Span.SPAN_KIND_CLIENT).values()
    async with world.control() as control:
        (asked,) = [one for one in await control.publications() if one["probe"] == probe["probe"]]
    assert asked["detail"]["traceparent"] == f"00-{probe['trace_id']}-{step.span_id.hex()}-03"
    check_step(step, probe, world)
    check_arrivals(named(spans, Span.SPAN_KIND_CONSUMER), probe, step)
    told = attributes(root)
    assert told["prober.probe"] == probe["probe"]
    assert told["prober.correlation_id"] == asked["detail"]["X-Correlation-ID"]
    assert told["prober.result"] == "pass"
    settled = [event for event in root.events if event.name == "settled"]
    assert len(settled) == 6
    assert root.start_time_unix_nano <= step.start_time_unix_nano
    assert root.end_time_unix_nano >= max(event.time_unix_nano for event in settled)
    (resource,) = collector.resources
    assert resource["service.name"] == "prober"
    assert resource["deployment.environment.name"] == "sandbox"
    assert collector.headers[0]["x-tenant"] == CANARY
    check_silent(collector, world, console, ended.out + ended.err)


def check_step(step: Span, probe: dict[str, Any], world: SandboxProcess) -> None:
    """The step's span is its HTTP exchange, to the microsecond that the result tells."""
    assert abs(step.start_time_unix_nano - nanoseconds(probe["requested_at"])) <= 1000
    assert abs(step.end_time_unix_nano - nanoseconds(probe["answered_at"])) <= 5_000_000  # two clocks, slewed
    told = attributes(step)
    url = f"{world.configuration['target']['url']}/alerts"
    assert (step.name, step.status.code, told["http.request.method"], told["url.full"]) == ("POST", 0, "POST", url)
    assert f"{told['server.address']}:{told['server.port']}" == url.split("/")[2]
    assert told["http.response.status_code"] == probe["answer"]["status"]
    assert told["user_agent.synthetic.type"] == "test"
    assert "error.type" not in told


def check_arrivals(arrivals: dict[str, Span], probe: dict[str, Any], step: Span) -> None:
    """Each arrival is linked to the step, and its span is the interval of its latency."""
    assert set(arrivals) == {f"receive {one['channel']}" for one in probe["deliveries"]}
    for delivery in probe["deliveries"]:
        span = arrivals[f"receive {delivery['channel']}"]
        assert [link.span_id for link in span.links] == [step.span_id]
        assert [link.trace_id for link in span.links] == [step.trace_id]
        told, latency = attributes(span), delivery["latency"]
        assert told["messaging.system"] == delivery["channel_kind"]
        assert told["messaging.message.conversation_id"] == probe["probe"]
        assert (told["prober.timeliness"], told["prober.outcome"]) == ("on_time", "delivered")
        assert (told["prober.latency.lower"], told["prober.latency.upper"]) == (latency["lower"], latency["upper"])
        assert abs(span.end_time_unix_nano - step.start_time_unix_nano - latency["upper"] * 1e9) <= 1000
        assert span.start_time_unix_nano <= span.end_time_unix_nano


def check_silent(collector: Collector, world: SandboxProcess, console: Console, written: str) -> None:
    """No secret is in a span, and the collector's own neither in the output nor in the ledger."""
    configuration = world.configuration
    observers = configuration["observers"]
    secrets = [configuration["target"]["token"], configuration["keys"][0]["secret"], CANARY]
    for secret in (*secrets, observers["slack"]["bot_token"], observers["discord"]["token"]):
        assert not any(secret.encode() in body for body in collector.bodies)
    assert CANARY not in written
    for path in console.folder.glob("ledger.sqlite*"):
        assert CANARY.encode() not in path.read_bytes()


async def test_a_gate_and_the_environment(world: SandboxProcess, console: Console) -> None:
    """OpenTelemetry's own variables are enough, for any command that probes."""
    console.write("prober.yaml", changed(world))
    async with collecting() as collector:
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "night-watch",
                   "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=seven"}  # fmt: skip
        ended = await console.run("gate", "alert-latency", "--max-probes", "1", "-o", "json", environ=environ)
    assert ended.code == 3, ended.err
    assert len({span.trace_id for span in collector.spans}) == 1
    assert collector.resources[0]["service.name"] == "night-watch"
    assert collector.headers[0]["x-tenant"] == "seven"


async def test_serve_exports_what_its_exemplars_name(world: SandboxProcess, console: Console) -> None:
    """Every trace id of an exemplar is at the collector."""
    async with collecting() as collector:
        configure(console, world, ("traces", {"endpoint": collector.url}))
        scenarios(console, every="1s")
        async with served(console) as service:
            await service.until(lambda value: value >= 3, "prober_deliveries_total", outcome="delivered")
            _, page = await service.get("/metrics", Accept="application/openmetrics-text")
            named_there = {
                sample.exemplar.labels["trace_id"]
                for family in openmetrics(page)  # type: ignore[no-untyped-call]
                for sample in family.samples
                if sample.exemplar
            }
            assert named_there
            await collector.until(lambda: named_there <= {span.trace_id.hex() for span in collector.spans})
            service.running.send(signal.SIGTERM)
            assert (await service.running.ended()).code == 0


async def test_a_tick_exports_before_it_ends(world: SandboxProcess, console: Console) -> None:
    """What a pass has settled is one whole trace, sent once, when it has ended."""
    its = world.configuration
    email = its["channels"]["email"]
    mail = {"observers": {"mailbox-1": its["observers"]["mailbox-1"]}, "channels": {"email": email},
            "target.channels": [email["target_channel"]]}  # fmt: skip
    async with collecting() as collector:
        # One inbox is enough here, and quick.
        configure(console, world, *mail.items(), ("traces", {"endpoint": collector.url}))
        scenarios(console, every="1s", channels="email")
        ended = await console.run("tick", "--scenarios", "scenarios", "-o", "json")
    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    assert (told["published"], told["outcome"], told["open"]) == ({"accepted": 1}, {"delivered": 1}, 0)
    (trace,) = {span.trace_id.hex() for span in collector.spans}
    assert len(collector.spans) == len(collector.of(trace)) == 3


@pytest.mark.parametrize("how", ["closed", "silent", "failing"])
async def test_a_collector_that_is_away_changes_nothing(world: SandboxProcess, console: Console, how: str) -> None:
    """The verdicts, the exit code and the end are what they are without traces; one line says that none left."""
    async with collecting(None if how == "silent" else 503) as collector:
        url = f"http://127.0.0.1:{free_port()}" if how == "closed" else collector.url
        config = console.write("prober.yaml", changed(world, ("traces", {"endpoint": url, "timeout": "20s"})))
        ended = await console.run("run", "alert-latency", "-c", config, *QUICK)
    assert ended.code == 0
    assert "3 of 3 deliveries on time" in ended.out + ended.err
    assert (ended.out + ended.err).count("Traces are not exported") == 1
    assert not collector.spans


async def test_what_a_collector_missed_comes_with_the_next_run(world: SandboxProcess, console: Console) -> None:
    """The trace of a run whose collector was away is exported by the next process on that ledger, once."""
    config = console.write("prober.yaml", changed(world, ("traces", {"endpoint": f"http://127.0.0.1:{free_port()}"})))
    missed = await console.run("run", "alert-latency", "-o", "json", "-c", config, *QUICK)
    (probe,) = missed.json["probes"]
    async with collecting() as collector:
        config = console.write("prober.yaml", changed(world, ("traces", {"endpoint": collector.url})))
        scenarios(console, every="1h")
        async with served(console, "-c", config, "--ledger", "ledger.sqlite") as service:
            await collector.until(lambda: bool(collector.of(probe["trace_id"])))
            service.running.send(signal.SIGTERM)
            await service.running.ended()
    assert len(collector.of(probe["trace_id"])) == 5


@pytest.mark.parametrize("configured", [False, True])
async def test_nothing_is_loaded_that_is_not_configured(
    world: SandboxProcess, console: Console, configured: bool
) -> None:
    """Without traces no module of opentelemetry is imported, by a whole run."""
    config = console.write("prober.yaml", changed(world))
    program = (
        "import sys, json\n"
        "from prober.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    found = [name for name in sys.modules if name.split('.')[0] == 'opentelemetry']\n"
        "    print(json.dumps([end.code, bool(found)]))\n"
    )
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"} if configured else {}
    script = console.write("program.py", program)
    arguments = (script, "run", "alert-latency", "-o", "nagios", "-c", config, *QUICK)
    async with console.start(*arguments, command=(sys.executable,), environ=environ) as running:
        ended = await running.ended()
    assert json.loads(ended.out.splitlines()[-1]) == [0, configured], ended.err


@pytest.mark.parametrize(
    ("traces", "environ", "words"),
    [
        ({"endpoint": "collector:4318"}, {}, "traces.endpoint"),
        ({"endpoint": "http://user:word@collector:4318"}, {}, "secrets belong into headers"),
        ({"endpont": "http://collector:4318"}, {}, "did you mean 'endpoint'?"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "grpc://collector"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (
            None,
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf",
        ),
    ],
)
async def test_a_wrong_collector_is_said_before_anything_starts(
    world: SandboxProcess, console: Console, traces: dict[str, str] | None, environ: dict[str, str], words: str
) -> None:
    """What is wrong with the collector's configuration exits 2 and names the place."""
    config = console.write("prober.yaml", changed(world, ("traces", traces)))
    ended = await console.run("run", "alert-latency", "-c", config, *QUICK, environ=environ)
    assert ended.code == 2
    assert words in ended.err
    assert "word@" not in ended.err
