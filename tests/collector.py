"""A collector of traces: a real OTLP/HTTP receiver on loopback that keeps what it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = ["Collector", "Span", "attributes", "collecting"]


def attributes(owner: Any) -> dict[str, Any]:
    """The attributes of a span, an event or a resource as plain values."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in owner.attributes}


@dataclass
class Collector:
    """What came. ``status`` is what it answers; None: it takes the request and never answers."""

    status: int | None = 200
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    port: int = 0
    came: asyncio.Condition = field(default_factory=asyncio.Condition)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of(self, trace: str) -> list[Span]:
        """The spans of one trace."""
        return [span for span in self.spans if span.trace_id.hex() == trace]

    async def until(self, true: Callable[[], bool], within: float = 45.0) -> None:
        """Wait until what came is as wanted."""
        async with asyncio.timeout(within), self.came:
            await self.came.wait_for(true)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.status is None:
            await self.over.wait()
        if self.status == 200:
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resources.append(attributes(resource.resource))
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        async with self.came:
            self.came.notify_all()
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(status=self.status or 200, body=answer, content_type="application/x-protobuf")


@asynccontextmanager
async def collecting(status: int | None = 200) -> AsyncIterator[Collector]:
    """A collector that listens until the end."""
    collector = Collector(status)
    app = web.Application()
    app.add_routes([web.post("/v1/traces", collector.take)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.port = runner.addresses[0][1]
        yield collector
    finally:
        collector.over.set()
        await runner.cleanup()
