"""The service's site over a ledger that somebody else fills."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from prober.channel_choice import resolve_channels
from prober.clock import Clock
from prober.config import Settings, settings_from_mapping
from prober.ledger.ledger import Ledger
from prober.model import Scenario
from prober.serve_form import serve_of
from prober.serving import Loaded, Serving
from prober.status.app import listening


@dataclass(frozen=True)
class Site:
    """Where it is, and the service behind it."""

    url: str
    serving: Serving

    async def get(self, path: str) -> tuple[int, str, Mapping[str, str]]:
        """Status, text and headers of an answer."""
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            return answer.status, await answer.text(), answer.headers


@asynccontextmanager
async def site(
    settings: Settings, scenarios: tuple[Scenario, ...], ledger: Ledger, clock: Clock
) -> AsyncIterator[Site]:
    """The site of a service whose loops do not run."""
    channels = {scenario.name: resolve_channels(scenario, settings.channels) for scenario in scenarios}
    loaded = Loaded(settings, serve_of(settings.serve), scenarios, channels)
    serving = Serving(loaded, lambda: loaded, ledger, clock)
    async with listening(serving, "127.0.0.1", 0) as port:
        yield Site(f"http://127.0.0.1:{port}", serving)


def settings_for(channels: Mapping[str, str], **more: Any) -> Settings:
    """Settings with these channels by name and kind, each kind read by an observer of the same name."""
    return settings_from_mapping(
        {
            "environment": "test",
            "location": "local",
            "keys": [{"id": "a", "secret": "a secret of more than thirty-two characters"}],
            "target": {"adapter": "publishing_module", "url": "http://127.0.0.1:9/v1", "token": "x", "channels": ["c"]},
            "observers": {kind: {"adapter": _ADAPTERS[kind]} for kind in sorted(set(channels.values()))},
            "channels": {
                name: {"observer": kind, "kind": kind, "address": f"{name}@probes.example", "target_channel": "c"}
                for name, kind in channels.items()
            },
            **more,
        },
        "made",
    )


_ADAPTERS = {"email": "imap", "slack": "slack", "discord": "discord"}
