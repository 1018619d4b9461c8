"""The stages: plain functions that do one pass each over the ledger, which is the hand-off between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import tenacity
from sqlalchemy import Connection

from prober import correlate
from prober.clean_up import Upkeep
from prober.clock import Clock, Instant
from prober.errors import LedgerError, OwnFault, TargetError, Unreadable
from prober.judge import judge
from prober.ledger import observing, planning, publishing, settling, slots
from prober.ledger.acting import record_acts
from prober.ledger.awaiting import requested_unread
from prober.ledger.ledger import Ledger
from prober.ledger.reading import ProbeRecord
from prober.marker import Keyring, find
from prober.model import Answer, Batch, Channel, KeyKind, Message, Wake
from prober.observers import Observer, Witness
from prober.processes import alive, can_tell, of_this_boot
from prober.targets import Announcing, Target

OWN_FAULT = "own_fault"
"""The reason of a blindness that comes from an error of our own."""

STALLED = 120.0
"""Seconds after which a read that has not ended counts as failed: without an end it would never be blindness."""

ELSEWHERE = 600.0
"""Seconds for which a step that was taken on another machine, or in another container, is left to it: no request takes
so long."""

SEARCHED_IN_THE_LOOP = 200_000
"""Characters in which keys are looked for in the event loop itself: some 10 ms."""


@dataclass(frozen=True, slots=True)
class Watch:
    """One observer and the channels that it reads, by name.

    Where observers are leased ``anew`` makes one like it, to be entered by whoever takes the lease, and ``epoch`` is
    the lease's, under which it looks.
    """

    observer: Observer
    channels: Mapping[str, Channel]
    anew: Callable[[], Observer] | None = None
    epoch: int | None = None


class TraceSink(Protocol):
    """Where traces go."""

    async def send(self, records: Sequence[ProbeRecord]) -> str:
        """Send the traces of settled probes; '' once they are accepted, else why not, in a few words. Bounded in time,
        raises nothing."""


@dataclass(frozen=True, slots=True)
class Flow:
    """What the stages work with, assembled once."""

    ledger: Ledger
    target: Target
    watches: tuple[Watch, ...]
    clock: Clock
    keyring: Keyring
    location: str
    taken_by: str
    upkeep: Upkeep = field(default_factory=Upkeep)
    witnesses: tuple[Witness, ...] = ()
    traces: TraceSink | None = None

    @property
    def served(self) -> frozenset[str]:
        """The identities of all channels that some observer reads."""
        return frozenset(channel.identity for watch in self.watches for channel in watch.channels.values())


async def plan(flow: Flow, drafts: Sequence[planning.PlannedProbe]) -> tuple[str, ...]:
    """Put probes on record; returns the ids of those that were not there yet."""
    return await flow.ledger.write(planning.plan_probes, drafts)


async def plan_slots(flow: Flow, table: slots.Timetable, running_since: Instant) -> slots.Passed:
    """Plan the scheduled probes whose time has come; what is not run is counted with its reason."""

    def plan_slots(conn: Connection) -> slots.Passed:
        # The instant is taken inside: a slot that a locked ledger held back is late by all of it.
        killed = bool(table.kill_switch) and Path(table.kill_switch).exists()
        now = flow.clock.now()
        return slots.plan_slots(conn, flow.location, table, now, running_since=running_since, killed=killed)

    return await flow.ledger.write(plan_slots)


async def claim(flow: Flow, patience: float = 0.0) -> publishing.Claimed:
    """Claim the steps that are due: on record before anything leaves. Those of the last ``patience`` seconds are left
    to others."""
    announce = flow.target.announce if isinstance(flow.target, Announcing) else publishing.announce_nothing
    return await flow.ledger.write(
        publishing.claim_steps,
        flow.location,
        flow.clock.now(),
        flow.taken_by,
        announce=announce,
        patience=patience,
    )


async def bury(flow: Flow) -> int:
    """Put on record that steps of processes that have ended are interrupted; returns how many."""

    def record_interrupted(conn: Connection) -> int:
        # The instant is taken inside: what is found taken was taken before it, however long the lock was awaited.
        now = flow.clock.now()
        return publishing.record_interrupted(
            conn, flow.location, now, lambda name, taken: _lives(flow, name, taken, now)
        )

    return await flow.ledger.write(record_interrupted)


def _lives(flow: Flow, name: str, taken: Instant, now: Instant) -> bool:
    """Whether the end of a step may still come from the process that took it."""
    if name == flow.taken_by or alive(name):
        return True
    if can_tell(name):
        return False
    # A file is of one machine: what began before that was started anew is over, another container may live on.
    return (flow.ledger.shared or of_this_boot(name)) and now.since(taken) < ELSEWHERE


async def take(flow: Flow, claimed: publishing.ClaimedStep) -> Answer | TargetError:
    """Take one claimed step, once, and put its end on record, however long the ledger takes to accept that.

    Returns the answer, or why there is none.
    """
    try:
        answer = await flow.target.take(claimed.step, claimed.publication)
    except TargetError as error:
        await _until_on_record(flow, publishing.record_failure, claimed.step, error, flow.clock.now())
        return error
    except Exception as exc:
        fault = OwnFault("the prober's own error", type(exc).__name__)
        await _until_on_record(flow, publishing.record_failure, claimed.step, fault, flow.clock.now())
        raise
    await _until_on_record(flow, publishing.record_answer, claimed.step, answer)
    return answer


async def _until_on_record(flow: Flow, act: object, *args: object) -> None:
    """Write, again and again while the ledger refuses it: an answer comes only once, even when we are to stop."""
    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(LedgerError),
        wait=tenacity.wait_exponential(multiplier=0.1, max=5),
        sleep=flow.clock.sleep,
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            await asyncio.shield(flow.ledger.write(act, *args))  # type: ignore[arg-type]


async def observe(flow: Flow, watch: Watch) -> Mapping[str, str]:
    """Read one observer completely and put what it saw on record; returns which channels it could not see, and why.

    Raises Unreadable (on record as blindness; an error of our own is one too, with its cause), CursorMoved (another
    process reads the same account), LeaseLost (another replica does, in our place) and LedgerError.
    """
    begun = flow.clock.now()
    try:
        return await _observe(flow, watch)
    except LedgerError:
        raise
    except Unreadable as error:
        await record_blind(flow, watch, error, begun)
        raise
    except Exception as error:
        blind = Unreadable(OWN_FAULT, type(error).__name__)
        await record_blind(flow, watch, blind, begun)
        raise blind from error


async def record_blind(flow: Flow, watch: Watch, error: Unreadable, begun: Instant) -> None:
    """Put on record that nothing can be seen, since a read (or the attempt to begin one) that began then. Raises
    LeaseLost and LedgerError."""
    name = watch.observer.name
    await flow.ledger.write(
        observing.record_unreadable, flow.location, name, error, begun, now=flow.clock.now(), epoch=watch.epoch
    )
    await _record_acts(flow)


async def _observe(flow: Flow, watch: Watch) -> Mapping[str, str]:
    name = watch.observer.name
    identities, now = [channel.identity for channel in watch.channels.values()], flow.clock.now()

    def place(conn: Connection) -> tuple[str | None, Instant | None]:
        cursor = observing.cursor_of(conn, flow.location, name)
        return cursor, requested_unread(conn, flow.location, identities, now)

    cursor, since = await flow.ledger.read(place)
    batch = await _read(flow, watch, cursor, since)
    # What was pushed meanwhile may be the same messages, received earlier.
    wake = await watch.observer.wait(flow.clock.now())
    shown = {(message.channel, message.id) for message in batch.messages}
    noticed = await noticed_in(flow, watch, _merged(batch, wake.pushed))
    observed = observing.Observed(
        observer=name,
        noticed=tuple(replace(n, in_read=(n.message.channel, n.message.id) in shown) for n in noticed),
        channels=watch.channels,
        expected=cursor,
        cursor=batch.cursor,
        readings=batch.readings,
        controls=batch.controls,
        controls_seen=(*wake.controls_seen, *batch.controls_seen),
        trouble=watch.observer.push_trouble,
        reads_per_minute=watch.observer.reads_per_minute,
        blind=batch.blind,
        retention=flow.upkeep.retention.success,
        epoch=watch.epoch,
    )
    await flow.ledger.write(observing.record, flow.location, observed, flow.clock.now())
    await _record_acts(flow)
    return {name: f"{blindness.reason}: {blindness.detail}" for name, blindness in batch.blind.items()}


async def _record_acts(flow: Flow) -> None:
    """Put on record what target, observers and witnesses did of their own accord. Raises LedgerError."""
    who = (flow.target, *(watch.observer for watch in flow.watches), *flow.witnesses)
    await record_acts(flow.ledger, flow.location, flow.taken_by, who)


async def _read(flow: Flow, watch: Watch, cursor: str | None, since: Instant | None) -> Batch:
    """One complete read that ends. Raises Unreadable."""
    reading = asyncio.ensure_future(watch.observer.read(cursor, since))
    ending = asyncio.ensure_future(flow.clock.sleep(STALLED))
    try:
        await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            raise Unreadable("timeout", f"a read has not ended for {STALLED:g} s")
        return reading.result()
    finally:
        reading.cancel()
        ending.cancel()
        await asyncio.gather(reading, ending, return_exceptions=True)


class Listening:
    """A wait on an observer that outlives changes of what is awaited.

    Who hears no pushes asks for a read when it has been waited on for a while: begun anew with each change, which may
    come every second, no wait would ever be so long.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._waiting: asyncio.Future[Wake] | None = None
        self._until: Instant | None = None

    async def wake(self, until: Instant, change: asyncio.Future[Any]) -> Wake:
        """Return when something may be new, by ``until``, or when ``change`` is done: what is awaited is another."""
        if self._until is not None and until.since(self._until) < 0:
            wake = await self.end()
            if wake != Wake():
                return wake
        if self._waiting is None:
            self._waiting, self._until = asyncio.ensure_future(self._observer.wait(until)), until
        await asyncio.wait({self._waiting, change}, return_when=asyncio.FIRST_COMPLETED)
        return await self.end() if self._waiting.done() else Wake()

    async def end(self) -> Wake:
        """Wait no longer; returns what has come by then."""
        waiting, self._waiting, self._until = self._waiting, None, None
        if waiting is None:
            return Wake()
        if not waiting.done():
            waiting.cancel()
            await asyncio.wait({waiting})
        return Wake() if waiting.cancelled() else waiting.result()


async def observe_pushed(flow: Flow, watch: Watch, wake: Wake) -> int:
    """Put what was pushed on record: upper bounds only, they move no cursor and prove no coverage."""
    noticed = await noticed_in(flow, watch, wake.pushed)
    if not noticed and not wake.controls_seen:
        return 0
    observed = observing.Observed(watch.observer.name, noticed, watch.channels, controls_seen=wake.controls_seen,
                                  retention=flow.upkeep.retention.success, epoch=watch.epoch)  # fmt: skip
    return await flow.ledger.write(observing.record, flow.location, observed, flow.clock.now())


async def settle(flow: Flow) -> settling.Settled:
    """Judge what has a new fact or whose time has come, and write the verdicts that are certain."""

    def settle_due(conn: Connection) -> settling.Settled:
        # The instant is taken inside: behind a locked ledger it would precede the facts that are judged.
        now = flow.clock.now()
        observing.expire_candidates(conn, flow.location, now)
        return settling.settle_due(conn, flow.location, now, flow.served, decide, traced=flow.traces is not None)

    return await flow.ledger.write(settle_due)


def decide(facts: correlate.DeliveryFacts, now: Instant) -> settling.Decision | None:
    """Facts -> case -> verdicts: the whole of what settle decides."""
    correlated = correlate.correlate(facts, now)
    if correlated is None:
        return None
    judgement = judge(correlated.case)
    return settling.Decision(
        timeliness=judgement.timeliness,
        outcome=judgement.outcome,
        latency=correlated.case.sighted.latency if correlated.case.sighted else None,
        origin=correlated.origin,
        contradiction=correlated.contradiction,
    )


async def noticed_in(flow: Flow, watch: Watch, messages: Sequence[Message]) -> tuple[observing.Noticed, ...]:
    """See :func:`notice`; what takes long is searched beside the loop, which takes the instants of others' pushes."""
    if sum(len(text) for message in messages for text in message.texts) <= SEARCHED_IN_THE_LOOP:
        return notice(messages, watch.channels, flow.keyring)
    return await asyncio.to_thread(notice, messages, watch.channels, flow.keyring)


def notice(
    messages: Sequence[Message], channels: Mapping[str, Channel], keyring: Keyring
) -> tuple[observing.Noticed, ...]:
    """The messages that carry keys, in the order in which they were seen, with the keys."""
    noticed = []
    for message in messages:
        channel = channels[message.channel]
        found = find(message.texts, message.recipients, keyring, channel=channel.name)
        # A subscriber's fixed plus-tag names the channel; it is no key of a probe.
        keys = tuple(k for k in found if not (k.kind is KeyKind.PLUS_TAG and f"+{k.value}@" in channel.address.lower()))
        if keys:
            noticed.append(observing.Noticed(message, keys))
    return tuple(noticed)


def _merged(batch: Batch, pushed: Sequence[Message]) -> tuple[Message, ...]:
    """What a read returned and what was pushed meanwhile, each message once, with its earliest receipt."""
    merged = {(message.channel, message.id): message for message in batch.messages}
    for message in pushed:
        key = (message.channel, message.id)
        known = merged.get(key)
        if known is None:
            merged[key] = message
        elif message.seen.since(known.seen) < 0:
            merged[key] = replace(known, seen=message.seen, how=message.how)
    return tuple(merged.values())
