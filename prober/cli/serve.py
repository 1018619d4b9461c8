"""``prober serve``: the always-on service, and its site."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog

from prober.assembly import drafting
from prober.channel_choice import resolve_channels
from prober.cli.deployment import deployment
from prober.cli.options import load_for
from prober.cli.service_logs import log_to_stderr
from prober.clock import SystemClock
from prober.config import Settings
from prober.errors import ConfigurationError
from prober.ledger.ledger import Ledger
from prober.ledger.opening import shown
from prober.model import Scenario
from prober.resources import contents_directory, scenarios_directory
from prober.scenario_files import load_scenarios
from prober.serve_form import serve_of
from prober.serving import Loaded, Serving

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What was typed."""

    listen: str
    names: tuple[str, ...]
    sandbox: bool
    weather: str | None
    ledger: str | None
    config: str | None
    scenarios: str | None


def serve_command(options: ServeOptions) -> None:
    """Serve until SIGINT or SIGTERM. Raises ProberError before anything starts."""
    host, port = _address(options.listen)
    log_to_stderr(console=sys.stderr.isatty())
    asyncio.run(_serve(options, host, port))


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"{text!r} is no address", "write HOST:PORT, such as 127.0.0.1:9464", field="--listen")
    return host, int(port)


async def _serve(options: ServeOptions, host: str, port: int) -> None:
    from prober.status.app import listening

    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        found = await stack.enter_async_context(
            deployment(options.config, options.ledger, sandbox=options.sandbox, weather=options.weather)
        )
        embedded = options.sandbox or options.weather is not None

        def load() -> Loaded:
            settings = found.settings if embedded else load_for(options.config)
            if settings is None or settings.target is None:
                raise ConfigurationError("the configuration is gone", "put it back", found.settings.source)
            return _loaded(settings, options)

        loaded = load()
        place = found.ledger or str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "ledger.sqlite")
        ledger = await stack.enter_async_context(Ledger(place))
        serving = Serving(loaded, load, ledger, SystemClock())
        _on_signals(stop, serving)
        async with listening(serving, host, port) as bound:
            log.info("Serving.", action="serving", address=f"http://{host}:{bound}/",
                     scenarios=[scenario.name for scenario in loaded.scenarios], ledger=shown(place))  # fmt: skip
            await serving.run(stop)
        log.info("Stopped.", action="stopped")


def _loaded(settings: Settings, options: ServeOptions) -> Loaded:
    """The files as they are now. Raises ConfigurationError."""
    directory = Path(options.scenarios) if options.scenarios else scenarios_directory()
    known = load_scenarios(directory, contents_directory())
    chosen = _chosen(known, options.names)
    drafting(settings)  # a wrong target is said now
    channels = {scenario.name: resolve_channels(scenario, settings.channels) for scenario in chosen}
    return Loaded(settings, serve_of(settings.serve), chosen, channels)


def _chosen(known: Mapping[str, Scenario], names: tuple[str, ...]) -> tuple[Scenario, ...]:
    """The scenarios that recur: those named, else all with a schedule."""
    from prober.nearest import did_you_mean

    for name in names:
        if name not in known:
            mend = did_you_mean(name, known) or f"there are {', '.join(known)}"
            raise ConfigurationError(f"there is no scenario {name!r}", mend, field="NAME")
    chosen = tuple(known[name] for name in names) if names else tuple(known.values())
    recurring = tuple(s for s in chosen if s.schedule.every is not None or s.schedule.cron is not None)
    if not recurring:
        raise ConfigurationError("no scenario has a schedule", "add one, such as schedule: {every: 1m}", field="NAME")
    return recurring


def _on_signals(stop: asyncio.Event, serving: Serving) -> None:
    loop = asyncio.get_running_loop()

    def reload() -> None:
        try:
            serving.reload()
        except ConfigurationError:
            return  # it is logged, and shown as a metric

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
