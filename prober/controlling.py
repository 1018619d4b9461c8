"""Control messages now and then, and trouble with pushes: what shows that it was the provider, and not the target."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from prober.auditing import audit_of
from prober.errors import Unreadable
from prober.ledger import controls, observing
from prober.observers import Controlling
from prober.sight import Sight
from prober.stages import Flow, Watch

log = structlog.get_logger()

CONTROL_EVERY = 720.0
"""Seconds between two control messages on one channel: often enough for what clocks drift and providers' moods, seldom
enough for their limits."""

UNTIL_SIGHT = 1.0
"""Seconds between looks whether the observer has read for the first time: that may post a control message itself."""


@dataclass(frozen=True, slots=True)
class Controlled:
    """How many control messages were posted, why some were not, and in how many seconds the next is due."""

    posted: int
    failed: Mapping[str, str]
    next_in: float


async def control(flow: Flow, watch: Watch) -> Controlled:
    """Post a control message to each channel that has had none for CONTROL_EVERY, whoever posted the last one."""
    observer = watch.observer
    if not isinstance(observer, Controlling):
        return Controlled(0, {}, math.inf)
    identities = frozenset(channel.identity for channel in watch.channels.values())
    latest = await flow.ledger.read(controls.latest_controls, flow.location, identities)
    posted, failed, next_in = 0, {}, CONTROL_EVERY
    for name, channel in watch.channels.items():
        last = latest.get(channel.identity)
        age = CONTROL_EVERY if last is None else flow.clock.now().since(last)
        if age < CONTROL_EVERY:
            next_in = min(next_in, CONTROL_EVERY - age)
            continue
        try:
            async with audit_of(flow).asking("control", name, {"": ""}) as answers:
                told = await observer.control(name)
                answers[""] = f"posted {told.id}".strip()
        except Unreadable as error:
            failed[name] = str(error)
            continue
        observed = observing.Observed(observer.name, (), watch.channels, controls=(told,), epoch=watch.epoch)
        await flow.ledger.write(observing.record, flow.location, observed, flow.clock.now())
        posted += 1
    return Controlled(posted, failed, next_in)


async def keep_posting(flow: Flow, watch: Watch, sight: Sight, posted: Callable[[], None]) -> None:
    """Post control messages for ever, each channel's when it is due; ``posted`` lets them be looked for."""
    while sight.last_started is None:
        await flow.clock.sleep(UNTIL_SIGHT)
    while True:
        done = await control(flow, watch)
        if done.posted:
            sight.control_at = flow.clock.now()
            posted()
        for channel, why in done.failed.items():
            log.warning("A control message could not be posted.", action="control", channel=channel, why=why)
        await flow.clock.sleep(done.next_in)


class Troubles:
    """For how many looks pushes have not flowed, by observer: a connection that is lost is often back by the next."""

    def __init__(self) -> None:
        self._looks: dict[str, int] = {}

    def changed(self, observer: str, trouble: str) -> bool:
        """Look once more and log what is new; True when that is worth showing."""
        looks = self._looks.get(observer, 0)
        self._looks[observer] = looks + 1 if trouble else 0
        if trouble and looks == 1:
            log.warning("Pushes do not flow as they should.", action="push_trouble", observer=observer, why=trouble)
        elif not trouble and looks > 1:
            log.info("Pushes flow again.", action="pushes_flow", observer=observer)
        return looks == 1 if trouble else looks > 1
