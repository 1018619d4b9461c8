"""Stage hear: what providers say of mail on its way becomes waypoints, in one transaction; nothing rests on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from prober.auditing import audit_of
from prober.channel_choice import channels_of
from prober.errors import LedgerError, Unreadable
from prober.ledger import hearing
from prober.marker import Keyring, find
from prober.model import Channel, ChannelKind, Hearsay
from prober.observers import Witness
from prober.stages import Flow

log = structlog.get_logger()

PAUSE, LONGEST_PAUSE = 2.0, 60.0
"""Seconds between two looks while nothing new is said, and while nothing can be heard."""


async def hear(flow: Flow, witness: Witness) -> tuple[int, int]:
    """Put on record what a provider says of our mail; returns how much was said, and how many waypoints are new.

    It is forgotten only after that: what was heard twice is on record once. Raises Unreadable and LedgerError.
    """
    said = await witness.hear()
    if not said:
        return 0, 0
    mail = [c for watch in flow.watches for c in watch.channels.values() if c.kind is ChannelKind.EMAIL]
    heard = [_heard(hearsay, mail, flow.keyring) for hearsay in said]
    done, new = await flow.ledger.write(hearing.record_heard, flow.location, heard, flow.clock.now())
    if done:
        event = f"{len(done)} events of SES that are on record"
        async with audit_of(flow).asking("forget", witness.name, {event: ""}) as answers:
            stay = await witness.forget(done)
            answers[event] = f"deleted but for {stay}" if stay else "deleted"
    return len(done), new


def _heard(hearsay: Hearsay, mail: Sequence[Channel], keyring: Keyring) -> hearing.Heard:
    channels = channels_of(hearsay.recipients, mail)
    keys = dict.fromkeys(key.value for key in find(hearsay.texts, hearsay.recipients, keyring))
    return hearing.Heard(hearsay, tuple(keys), tuple(channel.identity for channel in channels))


async def listen(flow: Flow, witness: Witness, changed: Callable[[], Awaitable[None]]) -> None:
    """Hear for ever; ``changed`` is called when something new is on record. Silence here is no blindness.

    Raises LedgerError.
    """
    trouble, failures = "", 0
    while True:
        said, words = 0, ""
        try:
            said, new = await hear(flow, witness)
            failures = 0
            if new:
                await changed()
        except Unreadable as error:
            words, failures = str(error), failures + 1
        if words and words != trouble:
            log.warning("What a provider says of mail is not heard.", action="unheard", witness=witness.name, why=words)
        elif trouble and not words:
            log.info("What a provider says of mail is heard again.", action="heard", witness=witness.name)
        trouble = words
        if not said:
            await flow.clock.sleep(min(PAUSE * 2.0 ** min(failures, 8), LONGEST_PAUSE))


async def ask_suppressed(flow: Flow, settled: Sequence[int]) -> int:
    """Ask whether mail that did not come is held back, which is then of our own making; how many waypoints are new.

    Raises LedgerError.
    """
    new = 0
    for missed in await flow.ledger.read(hearing.missed_mails, settled):
        for witness in flow.witnesses:
            for address in missed.addresses:
                try:
                    point = await witness.suppressed(address)
                except Unreadable as error:
                    log.info("Nobody says whether mail is held back.", action="unheard", why=str(error))
                    continue
                if point is not None:
                    new += await flow.ledger.write(hearing.add_waypoint_once, missed.probe, missed.delivery, point)
    return new


async def last_words(flow: Flow, asking: Sequence[asyncio.Task[None]], bound: float) -> None:
    """Await what is being asked, and hear each witness once more, for at most ``bound`` seconds."""
    if not flow.witnesses:
        return
    left: set[asyncio.Task[None]] = {
        *asking,
        *(asyncio.create_task(_hear_once(flow, witness)) for witness in flow.witnesses),
    }
    everybody = asyncio.create_task(asyncio.wait(left))
    end = asyncio.create_task(flow.clock.sleep(bound))
    try:
        await asyncio.wait({everybody, end}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (everybody, end, *left):
            task.cancel()
        await asyncio.gather(everybody, end, *left, return_exceptions=True)
    for task in left:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("What providers say of mail could not be put on record.", action="own_fault", exc_info=error)


async def _hear_once(flow: Flow, witness: Witness) -> None:
    with suppress(Unreadable, LedgerError):  # whoever listens tells of it; what is not forgotten comes again
        await hear(flow, witness)
