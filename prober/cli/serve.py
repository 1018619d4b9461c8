"""``prober serve``: the always-on service, and its site."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog

from prober.cli.deployment import deployment
from prober.cli.options import load_for
from prober.cli.recurring import loaded_from
from prober.cli.service_logs import log_to_stderr
from prober.clock import SystemClock
from prober.errors import ConfigurationError
from prober.ledger.ledger import Ledger
from prober.ledger.opening import shown
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
    read_only: bool


def serve_command(options: ServeOptions) -> None:
    """Serve until SIGINT or SIGTERM. Raises ProberError before anything starts."""
    host, port = _address(options.listen)
    if options.read_only and (options.sandbox or options.weather is not None):
        raise ConfigurationError("nobody else fills the embedded sandbox's ledger", "leave out --sandbox and --weather",
                                 field="--read-only")  # fmt: skip
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
            deployment(
                options.config,
                options.ledger,
                sandbox=options.sandbox,
                weather=options.weather,
                read_only=options.read_only,
            )
        )
        embedded = options.sandbox or options.weather is not None

        def load() -> Loaded:
            settings = found.settings if embedded else load_for(options.config)
            if settings is None or (settings.target is None and not options.read_only):
                raise ConfigurationError("the configuration is gone", "put it back", found.settings.source)
            return loaded_from(
                settings, serve_of(settings.serve), options.names, options.scenarios, read_only=options.read_only
            )

        loaded = load()
        place = found.ledger or str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "ledger.sqlite")
        ledger = await stack.enter_async_context(Ledger(place, read_only=options.read_only))
        serving = Serving(loaded, load, ledger, SystemClock(), read_only=options.read_only)
        _on_signals(stop, serving)
        async with listening(serving, host, port) as bound:
            log.info("Serving.", action="serving", address=f"http://{host}:{bound}/",
                     scenarios=[scenario.name for scenario in loaded.scenarios], ledger=shown(place))  # fmt: skip
            await serving.run(stop)
        log.info("Stopped.", action="stopped")


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
