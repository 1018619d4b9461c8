"""Stage sweep: one pass that removes what has served, and finds what nobody remembers; and the ledger's retention.

A clean-up is planned in one transaction, tried, and its end recorded in another: after a crash it is tried again,
which finds the message gone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from sqlalchemy import Row

from prober.auditing import audit_of
from prober.clean_up import (
    FIRST_PAUSE,
    CleanUpKind,
    Keeping,
    Lying,
    PublishedPage,
    Removal,
    minted_last,
    next_attempt,
)
from prober.clock import Instant
from prober.correlate import sender_allowed
from prober.errors import TargetError, Unreadable
from prober.ledger import observing, retention, sweeping
from prober.marker import Standing, find
from prober.model import Channel
from prober.observers import Removing
from prober.stages import Flow, Watch, noticed_in
from prober.targets import Recounting, Withdrawing

log = structlog.get_logger()

BATCH = 100
"""Messages of one channel, or publications, that one pass tries at the most."""

WITHDRAWALS_PER_MINUTE = RECOUNTS_PER_MINUTE = 60.0

LOOK_AGAIN = 3600.0
"""Seconds after a complete look at an observer's channels before the next begins."""

ANCHORED = 60.0
"""Seconds after which a message that reads rested on is tried again."""

SWEEP, SWEEP_ON = 60.0, 1.0
"""Seconds between two passes of the sweep, where nothing is left to do and where something is."""

RETAIN, RETAIN_ON = 3600.0, 0.5
"""The same for what has been in the ledger for too long."""

TARGET = ""
"""The target among the observers' names, of which none is empty."""

_BURST = 10.0


@dataclass(slots=True)
class Allowance:
    """What a provider lets us do: so much a minute, a tenth of a minute's worth of it at once, but at least one."""

    per_minute: float | None
    _spent: float = 0.0
    _at: Instant | None = None

    def left(self, now: Instant) -> int:
        """How much may be done now."""
        if not self.per_minute:
            return 0 if self.per_minute == 0 else BATCH
        if self._at is not None:
            self._spent = max(0.0, self._spent - self.per_minute / 60 * now.since(self._at))
        self._at = now
        return max(0, int(max(1.0, self.per_minute / _BURST) - self._spent + 1e-9))

    def spend(self, number: int) -> None:
        """So much was done."""
        self._spent += number if self.per_minute is not None else 0


@dataclass(slots=True)
class Swept:
    """What was done so far: ends by channel ('' : publications) and result; why something could not be done now.

    ``wanted`` is what a rehearsal found that would go. ``busy`` says that the latest pass did or planned something, or
    had to stop for a limit: there is more to do.
    """

    ends: Counter[tuple[str, Removal]] = field(default_factory=Counter)
    trouble: dict[str, str] = field(default_factory=dict)
    busy: bool = False
    backlog: int = 0
    wanted: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Course:
    """What is remembered from pass to pass: what was done, what providers still allow, how far each was looked
    through, and when the next look begins. With ``glance`` one page of each is enough."""

    keeping: Keeping
    glance: bool = False
    swept: Swept = field(default_factory=Swept)
    allowances: dict[tuple[str, str], Allowance] = field(default_factory=dict)
    positions: dict[str, str] = field(default_factory=dict)
    next_look: dict[str, Instant] = field(default_factory=dict)

    def allowance(self, name: str, what: str, per_minute: float | None) -> Allowance:
        return self.allowances.setdefault((name, what), Allowance(per_minute))


async def keep_sweeping(flow: Flow, ours: Callable[[], tuple[Watch, ...]]) -> None:
    """Sweep for ever what lies on channels that are ours to read; who has none leaves all of it to others."""
    course = Course(flow.upkeep.keeping)
    while True:
        watches = ours()
        if flow.watches and not watches:
            await flow.clock.sleep(SWEEP_ON)
            continue
        done = await sweep(replace(flow, watches=watches), course)
        for name, why in done.trouble.items():
            log.info("What has served cannot be removed now.", action="sweep_trouble", observer=name, why=why)
        done.trouble.clear()
        await flow.clock.sleep(SWEEP_ON if done.busy else SWEEP)


async def keep_retaining(flow: Flow) -> None:
    """Remove from the ledger for ever what is older than its retention."""
    while True:
        removed = await retain(flow)
        await flow.clock.sleep(RETAIN_ON if removed.more else RETAIN)


async def sweep(flow: Flow, course: Course) -> Swept:
    """Plan what is newly due, remove what is due, and look at one page of each observer's channels."""
    swept = course.swept
    swept.busy = await flow.ledger.write(
        sweeping.plan_clean_ups, flow.location, course.keeping, withdraws=isinstance(flow.target, Withdrawing)
    )
    await _withdraw(flow, course)
    await _recount(flow, course)
    for watch in flow.watches:
        if isinstance(watch.observer, Removing):
            await _remove(flow, watch, watch.observer, course)
            await _look(flow, watch, watch.observer, course)
    backlog = await flow.ledger.read(sweeping.backlog, flow.location, flow.clock.now().wall)
    swept.backlog = sum(backlog.values())
    return swept


async def retain(flow: Flow) -> retention.Removed:
    """Remove from the ledger, in one bounded transaction, what is older than its retention."""
    return await flow.ledger.write(retention.remove_old, flow.location, flow.upkeep.retention, flow.clock.now().wall)


async def sweep_up(flow: Flow, course: Course, seconds: float | None) -> bool:
    """Pass after pass until nothing is due and all has been looked through; False when the time was over before."""
    return await within(flow, _sweep_up(flow, course), seconds)


async def within(flow: Flow, act: Coroutine[Any, Any, None], seconds: float | None) -> bool:
    """Do it, for so many seconds at the most; False when the time was over before."""
    working = asyncio.ensure_future(act)
    ending = asyncio.ensure_future(flow.clock.sleep(seconds)) if seconds is not None else None
    try:
        await asyncio.wait({working, ending} if ending else {working}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        tasks = [working, *([ending] if ending else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def rehearse(flow: Flow, course: Course) -> None:
    """Find what a sweep would remove now, and touch nothing: neither a channel, nor the ledger."""
    now, wanted, read = flow.clock.now(), course.swept.wanted, flow.ledger.read
    plan = await read(sweeping.plannable, flow.location, course.keeping, withdraws=isinstance(flow.target, Withdrawing))
    wanted.update(f"{each.kind} {each.channel}".strip() for each in plan.wanted if each.due <= now.wall)
    identities = ["", *(channel.identity for watch in flow.watches for channel in watch.channels.values())]
    rows = await read(sweeping.due_clean_ups, flow.location, now.wall, identities, -1)
    wanted.update(f"{row.kind} {row.channel}".strip() for row in rows)
    course.swept.backlog = len(rows)
    if isinstance(flow.target, Recounting):
        await _rehearse_recount(flow, flow.target, course)
    for watch in flow.watches:
        if isinstance(watch.observer, Removing) and watch.observer.looks_per_minute != 0:
            await _rehearse_look(flow, watch, watch.observer, course)


async def _rehearse_recount(flow: Flow, target: Recounting, course: Course) -> None:
    position, now = "", flow.clock.now().wall
    while True:
        try:
            page = await target.published(position)
        except TargetError as error:
            course.swept.trouble["target"] = error.title
            return
        found = our_publications(flow, page)
        wanted = await flow.ledger.read(sweeping.unplanned, flow.location, found, course.keeping, now)
        course.swept.wanted.update(each.kind.value for each in wanted)
        if not (position := page.position):
            return
        await flow.clock.sleep(60.0 / RECOUNTS_PER_MINUTE)


async def _rehearse_look(flow: Flow, watch: Watch, observer: Removing, course: Course) -> None:
    position, pause = "", 60.0 / observer.looks_per_minute if observer.looks_per_minute else 0.0
    while True:
        now = flow.clock.now()
        try:
            page = await observer.lying(position, now.plus(-course.keeping.leftover))
        except Unreadable as error:
            course.swept.trouble[watch.observer.name] = str(error)
            return
        found = ours(await noticed_in(flow, watch, page.messages), page, watch.channels, now)
        wanted = await flow.ledger.read(sweeping.unplanned, flow.location, found, course.keeping, now.wall)
        course.swept.wanted.update(f"{each.kind} {each.channel}" for each in wanted)
        if not (position := page.position):
            return
        await flow.clock.sleep(pause)


async def _sweep_up(flow: Flow, course: Course) -> None:
    await retain(flow)
    while True:
        before = course.swept.ends.total()
        if not (await sweep(flow, course)).busy:
            return
        if course.swept.ends.total() == before:
            await flow.clock.sleep(0.25)  # it waits for a limit, or only looked


async def _withdraw(flow: Flow, course: Course) -> None:
    if not isinstance(flow.target, Withdrawing):
        return
    allowance = course.allowance("target", "withdraw", WITHDRAWALS_PER_MINUTE)
    for row in await _due(flow, "", allowance, course.swept):
        allowance.spend(1)
        try:
            async with audit_of(flow).asking("withdraw", "target", {row.subject: row.probe_id}) as answers:
                removal = await flow.target.withdraw(row.subject)
                answers[row.subject] = removal.value
        except TargetError as error:
            course.swept.trouble["target"] = error.title
            await _put_off(flow, [row])
            return
        await _end(flow, "", {row.id: removal}, course.swept)


async def _recount(flow: Flow, course: Course) -> None:
    """Look at one page of the target's publications, and plan the withdrawal of what is ours and old enough."""
    target, now, swept = flow.target, flow.clock.now(), course.swept
    due = course.next_look.get(TARGET)
    if not isinstance(target, Recounting) or (due is not None and now.since(due) < 0):
        return
    allowance = course.allowance(TARGET, "look", RECOUNTS_PER_MINUTE)
    if not allowance.left(now):
        swept.busy = True
        return
    allowance.spend(1)
    try:
        page = await target.published(course.positions.get(TARGET, ""))
    except TargetError as error:
        swept.trouble["target"] = error.title
        course.next_look[TARGET] = now.plus(FIRST_PAUSE)
        return
    planned = 0
    if found := our_publications(flow, page):
        planned = await flow.ledger.write(sweeping.plan_found, flow.location, found, course.keeping, now.wall)
    course.positions[TARGET] = page.position
    if course.glance or not page.position:
        course.next_look[TARGET] = now.plus(LOOK_AGAIN)
    swept.busy = swept.busy or bool(planned) or (bool(page.position) and not course.glance)


def our_publications(flow: Flow, page: PublishedPage) -> tuple[sweeping.Found, ...]:
    """What of a page is ours to withdraw: a key in it verifies for this environment."""
    found = []
    for identity, text in page.publications:
        keys = find([text], [], flow.keyring)
        minted = minted_last(keys)
        if minted is not None:
            ours = tuple(key.value for key in keys if key.standing is Standing.GENUINE)
            found.append(sweeping.Found(CleanUpKind.PUBLICATION, "", "", identity, ours, minted))
    return tuple(found)


async def _remove(flow: Flow, watch: Watch, observer: Removing, course: Course) -> None:
    """Remove what is due on an observer's channels, and leave what its reads rest on."""
    name = watch.observer.name
    cursor = await flow.ledger.read(observing.cursor_of, flow.location, name)
    allowance = course.allowance(name, "remove", observer.removals_per_minute)
    for channel in watch.channels.values():
        due = await _due(flow, channel.identity, allowance, course.swept)
        anchored = [row for row in due if observer.rests_on(cursor, channel.name, row.subject)]
        if anchored:
            later = flow.clock.now().wall + ANCHORED
            await flow.ledger.write(sweeping.put_off, {row.id: later for row in anchored}, attempted=False)
        free = {row.subject: row for row in due if row not in anchored}
        if not free:
            continue
        allowance.spend(len(free))
        try:
            subjects = {subject: row.probe_id for subject, row in free.items()}
            async with audit_of(flow).asking("remove", channel.name, subjects) as answers:
                ends = await observer.remove(channel.name, tuple(free))
                answers |= {subject: removal.value for subject, removal in ends.items()}
        except Unreadable as error:
            course.swept.trouble[name] = str(error)
            await _put_off(flow, [*free.values()])
            return
        await _end(flow, channel.name, {free[subject].id: end for subject, end in ends.items()}, course.swept)
        await _put_off(flow, [row for subject, row in free.items() if subject not in ends])


async def _due(flow: Flow, identity: str, allowance: Allowance, swept: Swept) -> Sequence[Row[Any]]:
    """What is due on a channel, as much of it as may be done now."""
    now = flow.clock.now()
    room = min(BATCH, allowance.left(now))
    rows = await flow.ledger.read(sweeping.due_clean_ups, flow.location, now.wall, (identity,), room + 1)
    swept.busy = swept.busy or len(rows) > room
    return rows[:room]


async def _end(flow: Flow, channel: str, ends: Mapping[int, Removal], swept: Swept) -> None:
    await flow.ledger.write(sweeping.end_clean_ups, flow.location, ends, flow.clock.now().wall)
    for removal in ends.values():
        swept.ends[channel, removal] += 1


async def _put_off(flow: Flow, rows: Sequence[Row[Any]]) -> None:
    if rows:
        now = flow.clock.now().wall
        until = {row.id: next_attempt(row.attempts + 1, now) for row in rows}
        await flow.ledger.write(sweeping.put_off, until, attempted=True)


async def _look(flow: Flow, watch: Watch, observer: Removing, course: Course) -> None:
    """Look at one page of what lies on the channels, and plan the removal of what is ours and old enough."""
    name, now, swept = watch.observer.name, flow.clock.now(), course.swept
    due = course.next_look.get(name)
    if due is not None and now.since(due) < 0:
        return
    allowance = course.allowance(name, "look", observer.looks_per_minute)
    if observer.looks_per_minute == 0:
        return
    if not allowance.left(now):
        swept.busy = True
        return
    allowance.spend(1)
    try:
        page = await observer.lying(course.positions.get(name, ""), now.plus(-course.keeping.leftover))
    except Unreadable as error:
        swept.trouble[name] = str(error)
        course.next_look[name] = now.plus(FIRST_PAUSE)
        return
    found = ours(await noticed_in(flow, watch, page.messages), page, watch.channels, now)
    planned = 0
    if found:
        planned = await flow.ledger.write(sweeping.plan_found, flow.location, found, course.keeping, now.wall)
    course.positions[name] = page.position
    if course.glance or not page.position:
        course.next_look[name] = now.plus(LOOK_AGAIN)
    swept.busy = swept.busy or bool(planned) or (bool(page.position) and not course.glance)


def ours(
    messages: Sequence[observing.Noticed], page: Lying, channels: Mapping[str, Channel], now: Instant
) -> tuple[sweeping.Found, ...]:
    """What of a page is ours to remove: it carries a verified key and comes from an allowed sender, or is a control
    message."""
    found = []
    for noticed in messages:
        message, channel = noticed.message, channels[noticed.message.channel]
        minted = minted_last(noticed.found)
        if minted is None or not sender_allowed(message.sender, channel.senders):
            continue
        keys = tuple(key.value for key in noticed.found if key.standing is Standing.GENUINE)
        found.append(sweeping.Found(CleanUpKind.LEFTOVER, channel.identity, channel.name, message.id, keys, minted))
    for message in page.controls:
        channel = channels[message.channel]
        posted = message.stamp.at if message.stamp is not None else now.wall
        found.append(sweeping.Found(CleanUpKind.CONTROL, channel.identity, channel.name, message.id, (), posted))
    return tuple(found)
