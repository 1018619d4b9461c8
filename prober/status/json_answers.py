"""``/api/v1/…``: what is on record, as JSON; reading only."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from prober.clock import rfc3339
from prober.ledger.glance import glance
from prober.ledger.latest import recent_probes
from prober.ledger.reading import probe_records
from prober.ledger.standing import objective_counts
from prober.objectives import budget
from prober.processes import this_process
from prober.report.evidence import probe_result
from prober.report.values import probe_to_json
from prober.serving import Serving
from prober.status.state import observer_states

MOST_PROBES = 500
"""Probes that one answer holds at the most."""


def json_routes(serving: Serving) -> list[web.RouteDef]:
    """The addresses below ``/api/v1``."""
    answers = Answers(serving)
    return [
        web.get("/api/v1/scenarios", answers.scenarios),
        web.get("/api/v1/scenarios/{scenario}/probes", answers.probes),
        web.get("/api/v1/probes/{probe}", answers.probe),
        web.get("/api/v1/objectives", answers.objectives),
        web.get("/api/v1/observers", answers.observers),
    ]


class Answers:
    """One service's."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def scenarios(self, _request: web.Request) -> web.Response:
        """Every scenario with its channels, deadline, horizon and schedule."""
        loaded = self._serving.loaded
        return _answer(
            {
                "scenarios": [
                    {
                        "name": scenario.name,
                        "description": scenario.description,
                        "kind": scenario.kind.value,
                        "channels": [channel.name for channel in loaded.channels[scenario.name]],
                        "within": scenario.within,
                        "give_up": scenario.give_up,
                        "every": scenario.schedule.every,
                        "cron": scenario.schedule.cron,
                        "time_zone": scenario.schedule.time_zone,
                    }
                    for scenario in loaded.scenarios
                ]
            }
        )

    async def probes(self, request: web.Request) -> web.Response:
        """The newest scheduled probes of a scenario with their deliveries, newest first (``?limit=``)."""
        name = request.match_info["scenario"]
        if name not in {scenario.name for scenario in self._serving.loaded.scenarios}:
            raise web.HTTPNotFound(text="there is no such scenario\n")
        try:
            limit = int(request.query.get("limit", "50"))
        except ValueError:
            raise web.HTTPBadRequest(text="limit must be a whole number\n") from None
        if not 1 <= limit <= MOST_PROBES:
            raise web.HTTPBadRequest(text=f"limit must be between 1 and {MOST_PROBES}\n")
        location = self._serving.loaded.settings.location
        records = await self._serving.ledger.read(recent_probes, location, name, limit)
        return _answer({"probes": [probe_to_json(probe_result(record)) for record in records]})

    async def probe(self, request: web.Request) -> web.Response:
        """One probe with its deliveries."""
        records = await self._serving.ledger.read(probe_records, [request.match_info["probe"]])
        if not records:
            raise web.HTTPNotFound(text="no such probe is on record\n")
        return _answer({"probe": probe_to_json(probe_result(records[0]))})

    async def objectives(self, _request: web.Request) -> web.Response:
        """What each objective has come to over its window."""
        loaded = self._serving.loaded
        kinds = {scenario.name: scenario.kind.value for scenario in loaded.scenarios}
        objectives, location = loaded.settings.objectives, loaded.settings.location
        now = self._serving.clock.now().wall
        counts = await self._serving.ledger.read(objective_counts, location, objectives, kinds, now)
        found: list[dict[str, Any]] = []
        for objective in objectives:
            mine = counts[objective.name]
            left = budget(mine, objective.goal)
            found.append(
                {
                    "name": objective.name,
                    "indicator": objective.indicator.value,
                    "goal": objective.goal,
                    "window": objective.window,
                    "good": mine.good,
                    "valid": mine.valid,
                    "void": mine.void,
                    "ratio": mine.ratio,
                    "band": mine.band,
                    "budget_remaining": None if left is None else left.remaining,
                    "budget_interval": None if left is None else left.interval,
                }
            )
        return _answer({"objectives": found})

    async def observers(self, _request: web.Request) -> web.Response:
        """Every account: whether it sees, until when each of its channels was read, and which replica reads it."""
        loaded = self._serving.loaded
        seen = await self._serving.ledger.read(glance, loaded.settings.location, ())
        me = this_process()
        found = [
            {
                "name": each.name,
                "blind": each.blind or None,
                "trouble": each.trouble or None,
                "held_by": each.host or None,
                "held_here": each.holder == me,
                "read_until": {name: None if at is None else rfc3339(at) for name, at in each.channels},
            }
            for each in observer_states(seen, loaded.settings.channels.values())
        ]
        return _answer({"observers": found})


def _answer(body: dict[str, Any]) -> web.Response:
    return web.json_response({"version": 1, **body})
