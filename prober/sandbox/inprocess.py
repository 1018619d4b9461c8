"""The world in this process behind the prober's two seams, without sockets: days of simulated time in milliseconds."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
from collections import OrderedDict
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from prober.clean_up import PublishedPage, Removal
from prober.clock import Instant, wait_for_any
from prober.errors import OwnFault, Refused, Unanswered, Unreachable, Unreadable
from prober.model import (
    Answer,
    Batch,
    Channel,
    ChannelKind,
    How,
    Key,
    KeyKind,
    Message,
    Publication,
    Reading,
    Stamp,
    Step,
    StepAction,
    Wake,
    Waypoint,
)
from prober.sandbox.board_removal import BoardRemoval
from prober.sandbox.boards import Board, InProcessWorld, Posted, message_id
from prober.sandbox.climate import GARBAGE, ApiFate
from prober.sandbox.letters import plain_text
from prober.sandbox.records import Order, Record, Rejected, Request, sender_address

__all__ = ["InProcessWorld", "WorldObserver", "WorldTarget"]

TIMEOUT = 10.0
"""Seconds after which the in-process target gives up waiting for an answer."""


_REMEMBERED = 10_000
_PAGE = 100
_SERVERS = {ChannelKind.EMAIL: "imap", ChannelKind.SLACK: "slack", ChannelKind.DISCORD: "discord"}
_RESOLUTIONS = {ChannelKind.EMAIL: 1.0, ChannelKind.SLACK: 1.0, ChannelKind.DISCORD: 0.001}


class WorldTarget:
    """The world's publishing system behind the prober's target seam."""

    def __init__(self, sandbox: InProcessWorld, timeout: float = TIMEOUT) -> None:
        self._sandbox = sandbox
        self._timeout = timeout
        self._world = sandbox.world
        self._clock = sandbox.clock

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def take(self, step: Step, publication: Publication) -> Answer:
        """As the seam says."""
        if step.action is StepAction.SEND and not step.recipient:
            raise OwnFault("no recipient", "a send without one would reach real subscribers")
        climate = self._sandbox.climate
        if climate.outage("api"):
            raise Unreachable("connection refused", "the sandbox's API is down")
        requested_at = self._clock.now()
        fate = climate.api_fate(step.action)
        record: Record | None = None
        learned: tuple[Key, ...] = ()
        rejected: Rejected | None = None
        if fate.taken:
            try:
                record, learned = self._effect(step, publication)
            except Rejected as error:
                rejected = error
        status = fate.status if fate.status is not None else rejected.status if rejected else 201
        self._note(step, publication, requested_at, status, record)
        await self._clock.sleep(self._timeout if fate.status == -1 else fate.delay)
        self._spoil(fate, requested_at)
        if rejected is not None:
            raise Refused(
                rejected.title,
                rejected.detail,
                status=rejected.status,
                requested_at=requested_at,
                answered_at=self._clock.now(),
            )
        identity = record.id if record else ""
        return Answer(status, requested_at, self._clock.now(), publication_id=identity, learned=learned)

    async def claims(self, publication_id: str) -> tuple[Waypoint, ...]:
        """As the seam says; this world claims nothing."""
        return ()

    async def health(self) -> dict[str, bool | None]:
        """As the seam says: whether the world's servers are up."""
        climate = self._sandbox.climate
        if climate.outage("api"):
            raise Unreachable("connection refused", "the sandbox's API is down")
        return {kind.value: not climate.outage(kind) for kind in ChannelKind}

    async def withdraw(self, publication_id: str) -> Removal:
        """As the seam says."""
        if self._sandbox.climate.outage("api"):
            raise Unreachable("connection refused", "the sandbox's API is down")
        try:
            self._world.cancel(publication_id)
        except Rejected as error:
            return {404: Removal.GONE, 409: Removal.TOO_LATE}.get(error.status, Removal.DENIED)
        return Removal.REMOVED

    async def published(self, position: str) -> PublishedPage:
        """As the seam says: those that are still to come, which carry no text but content ids."""
        if self._sandbox.climate.outage("api"):
            raise Unreachable("connection refused", "the sandbox's API is down")
        begin = int(position or "0")
        coming = [record for record in self._world.records.values() if record.status == "scheduled"]
        page, following = coming[begin : begin + _PAGE], str(begin + _PAGE) if begin + _PAGE < len(coming) else ""
        return PublishedPage(tuple((one.id, " ".join(one.order.content_ids)) for one in page), following)

    def _effect(self, step: Step, publication: Publication) -> tuple[Record, tuple[Key, ...]]:
        if step.action is StepAction.CANCEL:
            return self._world.cancel(step.publication_id), ()
        if step.action is StepAction.SEND:
            record = self._world.find(step.publication_id)
            message = self._world.send_one(record, step.recipient)
            return record, (Key(KeyKind.MESSAGE_ID, message.message_id),)
        record = self._world.create(
            Order(
                kind=publication.kind,
                channels=publication.target_channels,
                content_ids=(publication.content_id,),
                scheduled_time=publication.scheduled_time,
                template_id=publication.template_id,
                priority=publication.priority,
            )
        )
        return record, (Key(KeyKind.PUBLICATION_ID, record.id),)

    def _note(self, step: Step, publication: Publication, at: Instant, status: int, record: Record | None) -> None:
        self._world.requests.append(
            Request(
                at=at.wall,
                action=step.action,
                status=status,
                effect=record is not None,
                publication_id=record.id if record else "",
                probe=publication.probe,
                idempotency_key=f"{step.probe}-{step.number}",
            )
        )

    def _spoil(self, fate: ApiFate, requested_at: Instant) -> None:
        """Raise what the weather makes of the answer."""
        now = self._clock.now()
        if fate.status == -1:
            raise Unanswered("no answer", f"none within {self._timeout:g} s", timeout=True, requested_at=requested_at)
        if fate.status == 0:
            raise Unanswered("connection reset", "the sandbox's weather", requested_at=requested_at, answered_at=now)
        if fate.status == GARBAGE:
            raise Unanswered("the answer is no JSON", "garbage", status=200, requested_at=requested_at, answered_at=now)
        if fate.status is not None:
            error = Unanswered if fate.status >= 500 else Refused
            raise error("spoiled by the weather", status=fate.status, requested_at=requested_at, answered_at=now)


class WorldObserver(BoardRemoval):
    """Reads some of the world's boards, all of one kind; ``pushes`` False leaves it to periodic reads."""

    def __init__(
        self,
        name: str,
        sandbox: InProcessWorld,
        channels: tuple[Channel, ...],
        *,
        poll: float | None = None,
        pushes: bool = True,
    ) -> None:
        self.name = name
        self.channels = tuple(channel.name for channel in channels)
        self.poll = poll
        self.reads_per_minute: float | None = None
        self.push_trouble = ""
        self._sandbox = sandbox
        self._world_id = sandbox.world_id
        self._clock = sandbox.clock
        self._climate = sandbox.climate
        self._boards = [(channel, sandbox.board(channel.address)) for channel in channels]
        kinds = {channel.kind for channel in channels}
        if len(kinds) != 1:
            raise ValueError("a world observer reads channels of one kind")
        self._kind = kinds.pop()
        self._server = _SERVERS[self._kind]
        self._push = pushes
        self._event = asyncio.Event()
        self._inboxes = [_Inbox(self._event) for _ in channels]
        self._late: list[tuple[float, int, Channel, Posted]] = []
        self._order = itertools.count()
        self._pushed: OrderedDict[str, Instant] = OrderedDict()
        self._fresh = True
        self._blind_since_wait = False

    async def __aenter__(self) -> Self:
        self._sandbox.changed.add(self._event)
        for (_, board), inbox in zip(self._boards, self._inboxes, strict=True):
            board.watchers.append(inbox)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sandbox.changed.discard(self._event)
        for (_, board), inbox in zip(self._boards, self._inboxes, strict=True):
            board.watchers.remove(inbox)

    async def wait(self, until: Instant) -> Wake:
        """As the seam says: pushed messages come whole; losing and finding sight are reasons to read."""
        while True:
            self._event.clear()
            blind = self._blindness() is not None
            if blind != self._blind_since_wait:
                self._blind_since_wait = blind
                self._fresh = True
                return Wake(unread=True)
            pushed = self._arrived(blind)
            if pushed:
                return Wake(pushed)
            left = until.since(self._clock.now())
            if left <= 0:
                return Wake()
            await wait_for_any(self._clock, self._event, min([left, *self._next_changes()]))

    async def read(self, cursor: str | None, since: Instant | None = None) -> Batch:
        """As the seam says."""
        self._fail_if_blind()
        started = self._clock.now()
        fault = self._climate.request(self._server, "read")
        if fault is not None:
            if fault.delay:
                await self._clock.sleep(fault.delay)
            if fault.status == 429:
                raise Unreadable("rate_limited", f"the sandbox asks to wait {fault.retry_after or 0:g} s")
            if fault.status is not None or fault.garbage:
                raise Unreadable("protocol", f"the sandbox answered {fault.status or 'garbage'}")
            self._fail_if_blind()
        ended = self._clock.now()
        places = _places(cursor, self._sandbox.world_id)
        messages: list[Message] = []
        readings: dict[str, Reading] = {}
        for channel, board in self._boards:
            start = places.get(board.address)
            known = start is not None and board.first <= start <= board.end
            readings[channel.name] = Reading(started, ended, continues=known)
            if known and start is not None:
                messages += [self._found(channel, posted, ended) for posted in board.since(start)]
            elif start is None and since is not None:
                late = (posted for posted in board.since(0) if posted.at.wall >= since.wall)
                messages += [self._found(channel, posted, ended) for posted in late]
        self._fresh = False
        places = {board.address: board.end for _, board in self._boards}
        new = json.dumps({"world": self._sandbox.world_id, "next": places}, sort_keys=True)
        return Batch(tuple(messages), new, readings)

    def _blindness(self) -> Unreadable | None:
        if self._climate.outage(self._kind):
            return Unreadable("unreachable", "the sandbox's server is down")
        if not self._climate.login(self._server):
            return Unreadable("login_refused", "the sandbox's weather refuses logins")
        return None

    def _fail_if_blind(self) -> None:
        blindness = self._blindness()
        if blindness is not None:
            self._fresh = True
            raise blindness

    def _next_changes(self) -> list[float]:
        """Seconds until a push that is late comes, and until the weather changes by itself."""
        edge = self._climate.next_edge()
        changes = [] if edge is None else [edge]
        if self._late:
            changes.append(max(0.0, self._late[0][0] - self._clock.now().boottime))
        return changes

    def _arrived(self, blind: bool) -> tuple[Message, ...]:
        """What has been pushed by now; while blind, and without pushes, nothing is."""
        now = self._clock.now()
        arrived: list[tuple[Channel, Posted]] = []
        for (channel, board), inbox in zip(self._boards, self._inboxes, strict=True):
            arrived += [(channel, posted) for posted in self._take(channel, board, inbox, blind)]
        while self._late and self._late[0][0] <= now.boottime:
            _, _, channel, posted = heapq.heappop(self._late)
            if not blind:
                arrived.append((channel, posted))
        return tuple(self._message(channel, posted, now, How.PUSH) for channel, posted in arrived)

    def _take(self, channel: Channel, board: Board, inbox: _Inbox, blind: bool) -> list[Posted]:
        """The new messages of a board whose push is on time; the late ones are put on the timetable."""
        prompt: list[Posted] = []
        while not inbox.empty():
            posted = inbox.get_nowait()
            late = self._climate.push(self._server, board.address) if self._push and not blind else None
            if late == 0.0:
                prompt.append(posted)
            elif late is not None:
                heapq.heappush(self._late, (posted.at.boottime + late, next(self._order), channel, posted))
        return prompt

    def _found(self, channel: Channel, posted: Posted, seen: Instant) -> Message:
        how = How.HISTORY if self._fresh else How.POLL
        return self._message(channel, posted, seen, how)

    def _message(self, channel: Channel, posted: Posted, seen: Instant, how: How) -> Message:
        sent, world = posted.message, self._sandbox.world_id
        identity = message_id(world, channel.address, posted)
        if how is How.PUSH:
            self._pushed[identity] = seen
            while len(self._pushed) > _REMEMBERED:
                self._pushed.popitem(last=False)
        elif identity in self._pushed:
            seen, how = self._pushed[identity], How.PUSH
        mail = channel.kind is ChannelKind.EMAIL
        offset = self._climate.clock_offset(self._server)
        resolution = _RESOLUTIONS[channel.kind]
        stamp = (posted.at.wall + offset) // resolution * resolution
        return Message(
            channel=channel.name,
            id=identity,
            fingerprint=sent.message_id if mail else identity,
            texts=(sent.subject, unquote(plain_text(sent))),
            sender=sender_address(world),
            recipients=(sent.address,) if mail else (),
            seen=seen,
            how=how,
            misplaced=sent.junk,
            stamp=Stamp(stamp, resolution, f"world-{channel.kind}"),
        )


class _Inbox(asyncio.Queue[Posted]):
    """A queue that wakes its observer."""

    def __init__(self, event: asyncio.Event) -> None:
        super().__init__()
        self._wakes = event

    def put_nowait(self, item: Posted) -> None:
        super().put_nowait(item)
        self._wakes.set()


def _places(cursor: str | None, world_id: str) -> dict[str, int]:
    """The next number of each board by a cursor; nothing for none, for one of another world, and for what is none."""
    try:
        said: Any = json.loads(cursor or "{}")
        return {str(address): int(number) for address, number in said["next"].items() if said["world"] == world_id}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
