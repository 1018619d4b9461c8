"""Settings -> objects in one AsyncExitStack: the only file that knows every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any, Protocol

import structlog

from prober.acts import Acts
from prober.auditing import record_last_acts
from prober.clock import Clock
from prober.config import Settings, validate_adapter
from prober.draft import Drafting
from prober.errors import ConfigurationError, TargetError
from prober.findings import Examined
from prober.ledger.ledger import Ledger
from prober.marker import Keyring, SigningKey
from prober.model import Channel
from prober.observers import Observer, Witness
from prober.processes import this_process
from prober.safety import Bounds, Inventory, breaches, unverified
from prober.stages import Flow, Watch
from prober.targets import Listing, Target
from prober.traces_form import traces_of
from prober.yaml_source import Located

VERIFIED_WITHIN = 5.0
"""Seconds that a start waits for the target to list its channels and subscribers."""


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """A target's settings, validated: how it is made, and what probes must know of it before they are drafted."""

    make: Callable[[Clock], AbstractAsyncContextManager[Target]]
    templates: Mapping[str, str]
    sends_by_test: bool
    checks_text: bool
    allowed: tuple[str, ...]
    name_prefix: str


WitnessMaker = Callable[[str, Mapping[str, Any], Clock], Witness]
ObserverMaker = Callable[[str, Mapping[str, Any], tuple[Channel, ...], Clock], Observer]


def _publishing_module(raw: Mapping[str, Any]) -> TargetPlan:
    from prober.targets.publishing_module import PublishingModule, PublishingModuleSettings

    settings = validate_adapter(PublishingModuleSettings, raw)
    return TargetPlan(
        lambda clock: PublishingModule(settings, clock),
        settings.templates,
        settings.send == "test",
        checks_text=False,
        allowed=settings.channels,
        name_prefix=settings.name_prefix,
    )


def _http(raw: Mapping[str, Any]) -> TargetPlan:
    from prober.targets.http import HttpTarget
    from prober.targets.http_form import read_settings

    settings = read_settings(raw)
    return TargetPlan(
        lambda clock: HttpTarget(settings, clock), settings.templates, settings.steps.send is not None,
        checks_text=settings.check_text, allowed=settings.channels, name_prefix=settings.name_prefix,
    )  # fmt: skip


TARGETS: Mapping[str, Callable[[Mapping[str, Any]], TargetPlan]] = {
    "publishing_module": _publishing_module,
    "http": _http,
}
"""A new target costs its file and one line here (and its maker above)."""


def _imap(name: str, raw: Mapping[str, Any], channels: tuple[Channel, ...], clock: Clock) -> Observer:
    from prober.observers.imap import ImapObserver, ImapSettings

    return ImapObserver(name, validate_adapter(ImapSettings, raw), channels, clock)


def _slack(name: str, raw: Mapping[str, Any], channels: tuple[Channel, ...], clock: Clock) -> Observer:
    from prober.observers.slack import SlackObserver, SlackSettings

    return SlackObserver(name, validate_adapter(SlackSettings, raw), channels, clock)


def _discord(name: str, raw: Mapping[str, Any], channels: tuple[Channel, ...], clock: Clock) -> Observer:
    from prober.observers.discord import DiscordObserver, DiscordSettings

    return DiscordObserver(name, validate_adapter(DiscordSettings, raw), channels, clock)


def _s3(name: str, raw: Mapping[str, Any], channels: tuple[Channel, ...], clock: Clock) -> Observer:
    from prober.observers.s3 import S3Observer, S3Settings

    its = validate_adapter(S3Settings, raw)
    if its.bucket is None:
        raise ConfigurationError(
            f"observer {name!r} has no bucket, so channel {channels[0].name!r} cannot be read", "give it its bucket",
            field=f"observers.{name}.bucket",
        )  # fmt: skip
    return S3Observer(name, its, channels, clock)


def _ses(name: str, raw: Mapping[str, Any], clock: Clock) -> Witness:
    from prober.observers.s3 import S3Settings
    from prober.observers.ses import SesWitness

    return SesWitness(name, validate_adapter(S3Settings, raw), clock)


OBSERVERS: Mapping[str, ObserverMaker] = {"imap": _imap, "s3": _s3, "slack": _slack, "discord": _discord}
"""A new observer costs its file and one line here (and its maker above)."""

WITNESSES: Mapping[str, WitnessMaker] = {"s3": _ses}
"""Of an observer's adapter whoever tells what its provider says of mail on its way, to whomever it goes."""


class Examine(Protocol):
    """What ``observers/ADAPTER_examination.py`` offers as ``examine``.

    It asks what its provider can tell about this account and these channels, and posts only with ``post``; ``acts`` are
    told what it changed. Raises ConfigurationError; whatever the provider does is in its findings.
    """

    async def __call__(
        self, name: str, raw: Mapping[str, Any], channels: tuple[Channel, ...], clock: Clock, *, post: bool, acts: Acts
    ) -> Examined: ...


def examiner(adapter: str) -> Examine:
    """The examination of an adapter, which stands beside it in a file of its own."""
    examine: Examine = import_module(f"prober.observers.{adapter}_examination").examine
    return examine


def load_adapters(settings: Settings | None) -> None:
    """Import the modules that :func:`open_flow` will need (None: those of the default sandbox)."""
    target = "publishing_module" if settings is None or settings.target is None else settings.target["adapter"]
    import_module(f"prober.targets.{target}")
    wanted = OBSERVERS.keys() - {"s3"} if settings is None else {raw["adapter"] for raw in settings.observers.values()}
    for adapter in OBSERVERS.keys() & wanted:
        import_module(f"prober.observers.{adapter}")


def keyring(settings: Settings) -> Keyring:
    """The environment's signing keys."""
    keys = tuple(SigningKey(key.id, key.secret.get_secret_value().encode()) for key in settings.keys)
    return Keyring(settings.environment, keys)


def drafting(settings: Settings) -> Drafting:
    """What every probe of these settings shares. Raises ConfigurationError."""
    target = _target_plan(settings)
    return Drafting(
        environment=settings.environment,
        location=settings.location,
        keyring=keyring(settings),
        templates=target.templates,
        send_by_test=target.sends_by_test,
        check_text=target.checks_text,
    )


def make_target(settings: Settings, clock: Clock) -> AbstractAsyncContextManager[Target]:
    """The target of these settings, to be entered. Raises ConfigurationError, and OwnFault for an unusable token."""
    return _target_plan(settings).make(clock)


def bounds(settings: Settings) -> Bounds:
    """What may be published to. Raises ConfigurationError."""
    plan = _target_plan(settings)
    channels = tuple(settings.channels.values())
    return Bounds(plan.allowed, plan.name_prefix, channels, by_subscription=not plan.sends_by_test)


async def verify_target(target: Target, settings: Settings) -> str:
    """See that all that could be published to is named as a probe's and that nobody else is subscribed to it.

    Every start does this before anything is published. What could not be verified, because the target does not
    list it or does not answer now, is returned in a sentence ('' when all was): a target that fails is to be probed
    all the same, and the allow-list holds. Raises ConfigurationError where it is not safe.
    """
    if not isinstance(target, Listing):
        return unverified(Inventory())
    try:
        async with asyncio.timeout(VERIFIED_WITHIN):
            inventory = await target.inventory()
    except TargetError as error:
        inventory = Inventory(why=str(error))
    except TimeoutError:
        inventory = Inventory(why=f"the target did not list them within {VERIFIED_WITHIN:g} s")
    found = breaches(bounds(settings), inventory)
    if found:
        more = f"; {len(found) - 1} more: prober check" if len(found) > 1 else ""
        problem = f"nothing is published: {found[0].sentence}"
        raise ConfigurationError(problem, f"{found[0].mend}{more}", settings.source, field="target.channels")
    return unverified(inventory)


def _log_unverified(doubt: str) -> None:
    structlog.get_logger().warning("The target's channels are not verified.", action="unverified", reason=doubt)


SHORT_LIVED: Mapping[str, Mapping[str, Any]] = {
    "imap": {"idle": False},
    "slack": {"mode": "web"},
    "discord": {"mode": "rest"},
}
"""What a process that ends soon sets, by adapter: it reads, and keeps no connection open for pushes. Discord counts
1,000 IDENTIFYs a day, and Slack's second connection would take the events of the process that lives on."""


async def open_flow(
    stack: AsyncExitStack,
    settings: Settings,
    ledger: Ledger,
    clock: Clock,
    tell: Callable[[str], None] = _log_unverified,
    *,
    short_lived: bool = False,
    leasing: bool = False,
) -> Flow:
    """Enter the target and every observer that some channel needs, and see that it is safe to publish.

    With ``leasing`` observers are not entered: their leases decide when one is.

    ``tell`` is told in a sentence what of that could not be verified. Raises ConfigurationError, also where the
    target's channels or subscribers are not only ours. ``short_lived`` overrules the configuration by SHORT_LIVED.
    """
    by, opened = this_process(), list[object]()
    # Called last, when nobody can do anything any more.
    stack.push_async_callback(record_last_acts, ledger, settings.location, by, opened)
    target = await stack.enter_async_context(make_target(settings, clock))
    opened.append(target)
    made = [_watch(settings, name, clock, short_lived=short_lived) for name in settings.observers]
    watches = tuple(watch for watch in made if watch is not None)
    for watch in () if leasing else watches:
        opened.append(await stack.enter_async_context(watch.observer))
    witnesses = [
        await stack.enter_async_context(WITNESSES[raw["adapter"]](name, raw, clock))
        for name, raw in settings.observers.items()
        if raw["adapter"] in WITNESSES
    ]
    opened += witnesses
    if doubt := await verify_target(target, settings):
        tell(doubt)
    traces = None
    if (to := traces_of(settings.traces)) is not None:
        from prober.otlp import OtlpSink

        traces = OtlpSink(to, settings.environment, settings.location)
        stack.push_async_callback(traces.close)
    return Flow(
        ledger=ledger,
        target=target,
        watches=watches,
        clock=clock,
        keyring=keyring(settings),
        location=settings.location,
        taken_by=by,
        witnesses=tuple(witnesses),
        upkeep=settings.limits.upkeep,
        traces=traces,
    )


def _watch(settings: Settings, name: str, clock: Clock, *, short_lived: bool) -> Watch | None:
    raw = settings.observers[name]
    if short_lived:
        changes = SHORT_LIVED.get(raw["adapter"], {})
        # References below it begin in the configuration's folder, which a plain mapping would not know.
        raw = raw.changed(changes) if isinstance(raw, Located) else {**raw, **changes}
    channels = {channel.name: channel for channel in settings.channels.values() if channel.observer == name}
    maker = OBSERVERS.get(raw["adapter"])
    if maker is None:
        known = ", ".join(OBSERVERS)
        raise ConfigurationError(
            f"observer adapter {raw['adapter']!r} is not there yet", f"use one of {known}", settings.source,
            field=f"observers.{name}.adapter",
        )  # fmt: skip
    if not channels:
        return None
    anew = partial(maker, name, raw, tuple(channels.values()), clock)
    return Watch(anew(), channels, anew)


def _target_plan(settings: Settings) -> TargetPlan:
    if settings.target is None:
        raise ConfigurationError("no target is configured", "add target", settings.source, field="target")
    return TARGETS[settings.target["adapter"]](settings.target)
