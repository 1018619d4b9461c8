"""The page at ``/``, a probe's page, their style: what is so now, for people. Reading only, without a script."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import jinja2
from aiohttp import web
from sqlalchemy import Connection

from prober import __version__
from prober.durations import format_duration
from prober.launching import MOST_ERRORS
from prober.ledger.glance import RECENT, Glance, glance
from prober.ledger.reading import coverage_rows, observer_rows, probe_records
from prober.objectives import budget
from prober.report import figures
from prober.report.evidence import timeline
from prober.report.page import INDICATOR_WORDS, TEMPLATES, templates_in
from prober.report.provider_share import provider_facts
from prober.report.quantities import latency_text
from prober.report.ruling import judge_run, result_of
from prober.report.timeline import Timeline
from prober.serving import Serving
from prober.status import marks, state
from prober.status.waterfall import waterfall

REFRESH = 5
"""Seconds after which a browser asks again."""

FRESH = 1.0
"""Seconds for which one look at the ledger serves all who ask."""

_HERE = Path(__file__).parent / "templates"


def page_routes(serving: Serving) -> list[web.RouteDef]:
    """The addresses for people."""
    pages = Pages(serving)
    return [
        web.get("/", pages.status),
        web.get("/probes/{probe}", pages.probe),
        web.get("/static/style.css", style),
    ]


class Pages:
    """One service's. However many people look, one of its readings at a time waits for the ledger."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._one = asyncio.Lock()
        self._glance: tuple[float, Glance] | None = None

    async def status(self, request: web.Request) -> web.Response:
        """What is so now; asks again by itself unless ``?refresh=off``."""
        seen = await self._look()
        return await _html(lambda: status_html(self._serving, seen, refresh=_refreshes(request)))

    async def probe(self, request: web.Request) -> web.Response:
        """One probe's timeline; asks again by itself while something is open."""
        async with self._one:
            found = await self._serving.ledger.read(_timeline, request.match_info["probe"])
        if found is None:
            raise web.HTTPNotFound(text="no such probe is on record\n")
        return await _html(lambda: probe_html(self._serving, found, refresh=_refreshes(request)))

    async def _look(self) -> Glance:
        async with self._one:
            now = self._serving.clock.now().boottime
            if self._glance is None or now - self._glance[0] >= FRESH:
                loaded = self._serving.loaded
                names = [scenario.name for scenario in loaded.scenarios]
                seen = await self._serving.ledger.read(glance, loaded.settings.location, names)
                self._glance = (now, seen)
            return self._glance[1]


def _refreshes(request: web.Request) -> bool:
    return request.query.get("refresh") != "off"


async def _html(render: Callable[[], str]) -> web.Response:
    return web.Response(text=await asyncio.to_thread(render), content_type="text/html", charset="utf-8")


def _timeline(conn: Connection, probe: str) -> Timeline | None:
    records = probe_records(conn, [probe])
    if not records:
        return None
    location = records[0].probe.location
    facts = provider_facts(conn, records[0])
    return timeline(records[0], coverage_rows(conn, location), observer_rows(conn, location), facts)


async def style(_request: web.Request) -> web.Response:
    """The report's look and what the page adds; its address changes with it, so that it may be kept."""
    text, _ = await asyncio.to_thread(_style)
    kept = {"Cache-Control": "public, max-age=86400"}
    return web.Response(text=text, content_type="text/css", charset="utf-8", headers=kept)


@cache
def _style() -> tuple[str, str]:
    text = "".join((folder / name).read_text(encoding="utf-8") for folder, name in
                   ((TEMPLATES, "overview.css"), (_HERE, "status.css")))  # fmt: skip
    return text, hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def _templates() -> jinja2.Environment:
    environment = templates_in(_HERE)
    environment.globals |= {
        "version": __version__,
        "style": _style()[1],
        "refresh_every": REFRESH,
        "duration": format_duration,
        "figures": figures,
        "clock": clock_text,
        "day": day_text,
        "span": age_text,
        "confidence": confidence_text,
    }
    return environment


def status_html(serving: Serving, seen: Glance, *, refresh: bool) -> str:
    """The page at ``/``."""
    loaded, now = serving.loaded, serving.clock.now().wall
    states = state.scenario_states(seen, loaded.scenarios, loaded.channels)
    every = [channel for mine in loaded.channels.values() for channel in mine]
    budgets = [
        (objective, serving.counts.get(objective.name), INDICATOR_WORDS[objective.indicator])
        for objective in loaded.settings.objectives
    ]
    target = loaded.settings.target
    return (
        _templates()
        .get_template("status.html.j2")
        .render(
            now=now,
            refresh=refresh,
            headline=state.headline(states),
            states=states,
            budgets=[(o, c, words, budget(c, o.goal) if c is not None else None) for o, c, words in budgets],
            observers=state.observer_states(seen, every),
            waiting=state.waiting(seen),
            open_now=sum(seen.open_now.values()),
            failures=state.failures(seen),
            dependencies=seen.dependencies,
            notices=_notices(serving, seen, now),
            environment=loaded.settings.environment,
            location=loaded.settings.location,
            target="" if target is None else str(target.get("url", "")),
            marks=marks,
            recent=RECENT,
        )
    )


def _notices(serving: Serving, seen: Glance, now: float) -> list[str]:
    """What keeps the service from doing what it is there for."""
    limits = serving.loaded.settings.limits
    found = []
    if not serving.healthy:
        found.append("The loops do not run: nothing is launched and nothing is read.")
    if not serving.reloaded:
        found.append("The configuration that was read last is wrong; the one before it is in force. The log says why.")
    if limits.kill_switch and Path(limits.kill_switch).exists():
        found.append("The kill switch is on: nothing is launched.")
    if seen.errors >= MOST_ERRORS:
        found.append(f"The target failed {seen.errors} times in a row: only one trial a minute is launched.")
    paused = [s.name for s in serving.loaded.scenarios
              if any(window.covers(s.name, now) for window in limits.limits.maintenance)]  # fmt: skip
    if paused:
        found.append(f"Maintenance: {', '.join(paused)} {'are' if len(paused) > 1 else 'is'} not launched.")
    return found


def probe_html(serving: Serving, found: Timeline, *, refresh: bool) -> str:
    """The page of one probe."""
    probe = found.probe
    result, reason = judge_run([probe])
    settled = all(delivery.settled for delivery in probe.deliveries)
    notes: dict[str, list[str]] = {}
    for note in found.notes:
        notes.setdefault(note.channel, []).append(note.text)
    return (
        _templates()
        .get_template("probe.html.j2")
        .render(
            now=serving.clock.now().wall,
            refresh=refresh and not settled,
            settled=settled,
            probe=probe,
            result=result.value if settled or result.value == "fail" else "idle",
            reason=reason,
            deliveries=[
                (
                    each,
                    *result_of(each),
                    latency_text(each.latency) if each.latency else "",
                    notes.get(each.channel, []),
                )
                for each in probe.deliveries
            ],
            waterfall=waterfall(found),
        )
    )


def clock_text(wall: float) -> str:
    """The time of day in UTC, to the second."""
    return datetime.fromtimestamp(wall, UTC).strftime("%H:%M:%S")


def day_text(wall: float) -> str:
    """Day and time in UTC, to the second."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%d %H:%M:%S")


def age_text(seconds: float) -> str:
    """How long that is, to what matters: ``12 s``, ``5 min``, ``3 h``, ``4 d``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def confidence_text(interval: tuple[float, float]) -> str:
    """Between which shares something lies; far below nothing one number would say no more than another."""
    low, high = interval
    least = "less than -100 %" if low < -1 else f"{low * 100:.0f} %"
    return f"{least} to {high * 100:.0f} %"
