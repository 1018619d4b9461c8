"""Who watches the watcher: a crash stays where it is and is counted, lateness is measured, a heartbeat means health."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import SecretStr
from sqlalchemy import Connection
from structlog.testing import capture_logs

from prober.clock import Instant, SystemClock
from prober.config import settings_from_mapping
from prober.errors import LedgerError
from prober.ledger.ledger import Ledger
from prober.loops import Loops
from prober.model import Batch, Wake
from prober.sandbox.inprocess import WorldObserver
from prober.serve_form import ServeSettings
from prober.serving import Loaded, Serving
from tests.flow.rig import Life, Rig, total, verdicts


class Crashing(WorldObserver):
    """Slack's always end in an error of our own, Discord's first wait does."""

    waits = 0

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        if self.name == "slack-observer":
            raise KeyError("a mistake of ours")
        return await super().read(cursor, since)

    async def wait(self, until: Instant) -> Wake:
        self.waits += 1
        if self.name == "slack-observer":
            raise KeyError("a mistake of ours")
        if self.name == "discord-observer" and self.waits == 1:
            raise ZeroDivisionError("another mistake")
        return await super().wait(until)


async def errors(rig: Rig, life: Life, reason: str) -> float:
    def count(conn: Connection) -> float:
        return total(conn, "internal_errors_total", component="observe", reason=reason)

    task = asyncio.ensure_future(life.flow.ledger.read(count))
    await rig.clock.advance(0)
    return await task


async def test_a_crash_of_one_observer_stops_no_other(tmp_path: Path) -> None:
    """The others see on time, one that recovers goes on, one that does not ends void, and each crash is counted."""
    rig = Rig(tmp_path)
    rig.observer = Crashing
    with capture_logs() as lines:  # drawing each traceback would take most of the test
        async with rig.world_turning(), rig.life() as life:
            await rig.clock.advance(15)
            await life.launch()
            await rig.clock.advance(200)
            (probe,) = await rig.results(life)
            assert verdicts(probe) == {
                "email": ("on_time", "delivered"),
                "slack": ("void", "void"),
                "discord": ("on_time", "delivered"),
            }
            assert await errors(rig, life, "KeyError") >= 2
            assert await errors(rig, life, "ZeroDivisionError") >= 1
    told = {(line["action"], line["loop"]) for line in lines if "loop" in line}
    assert told >= {("loop_restart", "observe slack-observer"), ("own_fault", "discord-observer")}


async def test_lateness_of_ours_is_measured(tmp_path: Path) -> None:
    """A process that was held up for twenty seconds says so, and forgets it once it is in time again."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life() as life:
        await rig.clock.advance(5)
        assert life.loops.lag < 0.01
        await rig.clock.suspend(20)
        assert 19 <= life.loops.lag <= 20
        await rig.clock.advance(5)
        assert life.loops.lag < 0.01
        assert 19 <= life.loops.worst_lag <= 20


@asynccontextmanager
async def switch(status: int = 200) -> AsyncIterator[tuple[str, list[str]]]:
    """A dead man's switch: its URL, and what it heard."""
    heard: list[str] = []

    async def hear(request: web.Request) -> web.Response:
        heard.append(request.path)
        return web.Response(status=status)

    app = web.Application()
    app.add_routes([web.get("/beat", hear)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/beat", heard
    finally:
        await runner.cleanup()


def serving(ledger: Ledger, url: str) -> Serving:
    settings = settings_from_mapping({"environment": "lab", "keys": [{"id": "a", "secret": "s" * 16}]}, "the test")
    loaded = Loaded(settings, ServeSettings(heartbeat=SecretStr(url)), (), {})
    return Serving(loaded, lambda: loaded, ledger, SystemClock())


@pytest.mark.parametrize("status", [200, 503])
async def test_a_heartbeat_means_that_the_loops_run(tmp_path: Path, status: int) -> None:
    """Without loops, and without a ledger that can be read, none is sent; one that is not accepted counts for none."""
    rig = Rig(tmp_path)
    async with rig.world_turning(), rig.life() as life, switch(status) as (url, heard):
        one = serving(life.flow.ledger, url)
        await one._beat()
        assert heard == []
        assert one.local().heartbeat_at == 0
        one._loops = life.loops
        await one._beat()
        assert heard == ["/beat"]
        assert (one.heartbeat_at > 0) == (status == 200)
        assert one.local().heartbeat_at == one.heartbeat_at
        one.loaded = replace(one.loaded, serve=ServeSettings())
        assert one.local().heartbeat_at is None


async def test_no_heartbeat_without_a_readable_ledger(tmp_path: Path) -> None:
    """A pass that cannot read the ledger is no healthy one."""
    rig = Rig(tmp_path)
    broken = Ledger(str(tmp_path / "broken.sqlite"))
    async with rig.world_turning(), rig.life() as life, switch() as (url, heard), broken:
        await broken.write(_break)
        one = serving(broken, url)
        one._loops = life.loops
        with pytest.raises(LedgerError):
            await one._beat()
    assert heard == []
    assert one.heartbeat_at == 0
    assert isinstance(one._loops, Loops)


def _break(conn: Connection) -> None:
    conn.exec_driver_sql("DROP TABLE totals")
