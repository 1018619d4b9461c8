"""One suite for the observer seam: what holds for every adapter, the in-process world and Debian's Dovecot included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from prober.clock import Instant
from prober.errors import Unreadable
from prober.model import How
from prober.observers import Observer
from tests.conformance.place import CLOCK, Place, name_of
from tests.conformance.places import OBSTACLES, PLACES
from tests.conformance.seeing import PATIENCE, at_rest, heard, held, listening, names, read, read_again, reason, soon

CUTS = 100

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """Each place in turn."""
    make, _ = PLACES[request.param]
    async with make(request) as made:
        yield made


async def test_a_first_read_begins_now(place: Place) -> None:
    """Nothing old is returned and nothing before is covered; what comes afterwards is returned once and covered."""
    await place.post("message 1")
    before = CLOCK.now()
    async with place.observer() as observer:
        first = await read(observer, None, place)
        reading = first.readings[place.channel]
        assert first.messages == ()
        assert not reading.continues
        assert reading.started.since(before) >= 0
        assert reading.ended.since(reading.started) >= 0
        posted = CLOCK.now()
        await place.post("message 2")
        second = await read(observer, first.cursor, place)
        assert names(second.messages) == ["message 2"]
        assert second.messages[0].channel == place.channel
        assert second.messages[0].seen.since(posted) >= 0
        assert second.readings[place.channel].continues
        assert second.readings[place.channel].started.since(reading.started) > 0
        third = await read(observer, second.cursor, place)
        assert (third.messages, third.readings[place.channel].continues) == ((), True)


async def test_a_first_read_looks_back_as_far_as_it_is_asked(place: Place) -> None:
    """What came since an instant and is still there is shown once, as history; nothing from before the read is covered,
    and what is older than the instant is not shown."""
    await place.post("message 1")
    before = CLOCK.now()
    async with place.observer() as observer:
        assert names((await read(observer, None, place, before.plus(3600))).messages) == []
    async with place.observer() as another:
        batch = await read(another, None, place, before.plus(-600))
        assert [(name_of(message), message.how) for message in batch.messages] == [("message 1", How.HISTORY)]
        reading = batch.readings[place.channel]
        assert not reading.continues
        assert reading.started.since(before) >= 0
        await place.post("message 2")
        batch = await read(another, batch.cursor, place, before.plus(-600))
        assert names(batch.messages) == ["message 2"]
        assert batch.readings[place.channel].continues


async def test_a_push_is_an_upper_bound_and_a_read_keeps_it(place: Place) -> None:
    """What is announced was visible before, and the read that returns it never says a later instant than the push."""
    async with place.observer() as observer:
        cursor = await listening(observer, place)
        posted = CLOCK.now()
        await place.post("message 1")
        pushed, unread = await heard(observer, lambda seen, asked: bool(seen) or (asked and not place.pushes_whole))
        announced = CLOCK.now()
        batch = await read_again(observer, cursor, place)
    (found,) = batch.messages
    assert name_of(found) == "message 1"
    assert found.seen.since(posted) >= 0
    if place.pushes_whole:
        (first,) = pushed
        assert (first.id, first.how) == (found.id, How.PUSH)
        assert posted.since(first.seen) <= 0 <= announced.since(first.seen)
        assert found.seen == first.seen
    else:
        assert unread


async def test_silence_proves_nothing_and_a_read_finds_all(place: Place) -> None:
    """Where nothing is pushed a wait ends without the message, and the next read returns it, as found by itself."""
    place.mute()
    async with place.observer() as observer:
        first = await read_again(observer, None, place)
        await read_again(observer, first.cursor, place)
        await place.post("message 1")
        assert (await observer.wait(soon(0.1))).pushed == ()
        batch = await read(observer, first.cursor, place)
    assert [(name_of(message), message.how is How.PUSH) for message in batch.messages] == [("message 1", False)]


async def test_a_wait_ends_at_its_time(place: Place) -> None:
    """Where nothing happens a wait ends, not before its time."""
    place.mute()
    async with place.observer() as observer:
        await read_again(observer, None, place)
        end = soon(PATIENCE)
        while True:
            assert CLOCK.now().since(end) < 0, "every wait has news"
            until = soon(0.2)
            wake = await observer.wait(until)
            if not wake.unread:
                break
        assert CLOCK.now().since(until) >= -0.001


async def test_nothing_is_missed_while_connections_are_cut(place: Place) -> None:
    """Messages flow while every connection is ended a hundred times: reads return each once, and coverage holds."""
    expected = [f"message {number}" for number in range(CUTS)]

    async def flow() -> None:
        for name in expected:
            await place.post(name)
            await place.cut()
            await CLOCK.sleep(0.005)

    async with place.observer() as observer:
        cursor = (await read_again(observer, None, place)).cursor
        flowing = asyncio.create_task(flow())
        found: list[str] = []
        end = soon(2 * PATIENCE)
        while not flowing.done() or len(found) < CUTS:
            assert CLOCK.now().since(end) < 0, f"only {len(found)} were read"
            await observer.wait(soon(0.05))
            try:
                batch = await read(observer, cursor, place)
            except Unreadable:
                continue
            assert all(reading.continues for reading in batch.readings.values())
            cursor, found = batch.cursor, found + names(batch.messages)
        await flowing
        assert (await read_again(observer, cursor, place)).messages == ()
    assert sorted(found) == sorted(expected)


async def test_a_reading_covers_what_was_visible_at_its_start(place: Place) -> None:
    """While messages flow, each that was visible when a read started has been returned when that read ends."""
    place.mute()
    visible: list[tuple[str, Instant]] = []

    async def flow() -> None:
        for number in range(40):
            await place.post(f"message {number}")
            visible.append((f"message {number}", CLOCK.now()))
            await CLOCK.sleep(0.005)

    seen: set[str] = set()
    async with place.observer() as observer:
        batch = await read_again(observer, None, place)
        flowing = asyncio.create_task(flow())
        end = soon(PATIENCE)
        while not flowing.done() or len(seen) < 40:
            assert CLOCK.now().since(end) < 0, f"only {len(seen)} were read"
            await CLOCK.sleep(0)  # a read without sockets lets nobody else go on
            batch = await read_again(observer, batch.cursor, place)
            seen |= set(names(batch.messages))
            started = batch.readings[place.channel].started
            assert {name for name, after in visible if started.since(after) >= 0} <= seen
        await flowing


async def test_a_lost_sight_wakes_and_comes_back(place: Place) -> None:
    """An outage is a reason to read; when it is over the first read finds what came meanwhile, later than it came."""
    async with place.observer() as observer:
        cursor = await listening(observer, place)
        await place.obstruct("outage")
        await heard(observer, lambda _, unread: unread)
        with pytest.raises(Unreadable) as blind:
            await read(observer, cursor, place)
        assert blind.value.reason == "unreachable"
        await place.post("message 1")
        hidden = CLOCK.now()
        await place.clear("outage")
        batch = await read_again(observer, cursor, place)
    (message,) = batch.messages
    assert (name_of(message), message.how) == ("message 1", How.HISTORY)
    assert message.seen.since(hidden) >= 0
    assert batch.readings[place.channel].continues


async def test_a_cursor_resumes_in_another_observer(place: Place) -> None:
    """A cursor means the same to a later life: nothing twice, nothing missing, coverage unbroken."""
    async with place.observer() as observer:
        first = await read_again(observer, None, place)
        await place.post("message 1")
        batch = await read_again(observer, first.cursor, place)
        assert names(batch.messages) == ["message 1"]
    await place.post("message 2")
    async with place.observer() as another:
        batch = await read_again(another, batch.cursor, place)
        assert [(name_of(message), message.how) for message in batch.messages] == [("message 2", How.HISTORY)]
        assert batch.readings[place.channel].continues
        assert (await read_again(another, batch.cursor, place)).messages == ()


async def test_a_worthless_cursor_begins_anew(place: Place) -> None:
    """Where the known position means nothing any more coverage begins anew, and goes on from there."""
    async with place.observer() as observer:
        cursor = (await read_again(observer, None, place)).cursor
        await place.post("message 1")
        cursor = (await read_again(observer, cursor, place)).cursor
    await place.forget()
    async with place.observer() as another:
        batch = await read_again(another, cursor, place)
        assert not batch.readings[place.channel].continues
        await place.post("message 2")
        batch = await read_again(another, batch.cursor, place)
        assert "message 2" in names(batch.messages)
        assert batch.readings[place.channel].continues


@pytest.mark.parametrize("cursor", ["", "nonsense", "[]", "{}", "7", '{"version": 99, "place": 1}'])
async def test_a_cursor_that_cannot_be_understood_is_a_lost_one(place: Place, cursor: str) -> None:
    """What stands in a ledger that something has damaged begins anew instead of failing for ever."""
    async with place.observer() as observer:
        batch = await read_again(observer, cursor, place)
        assert not batch.readings[place.channel].continues


@pytest.mark.parametrize(("name", "obstacle"), OBSTACLES)
async def test_what_cannot_be_read_is_typed_and_hides_nothing(
    name: str, obstacle: str, request: pytest.FixtureRequest
) -> None:
    """Whatever takes sight away is Unreadable with its reason, never an empty read; sight's return shows the rest."""
    make, kind = PLACES[name]
    async with make(request) as place, place.observer() as observer:
        place.mute()
        cursor = (await read_again(observer, None, place)).cursor
        await place.obstruct(obstacle)
        await place.post("message 1")
        reasons = {await reason(observer, cursor, place) for _ in range(2)}
        assert reasons == {kind.obstacles[obstacle]}
        await place.clear(obstacle)
        batch = await read_again(observer, cursor, place)
        assert "message 1" in names(batch.messages)
        assert batch.readings[place.channel].continues


async def test_a_cancelled_wait_loses_no_push(place: Place) -> None:
    """Waits that are cancelled at every turn of the loop lose nothing: what one did not return a later one does."""
    async with place.observer() as observer:
        await listening(observer, place)
        for number in range(20):
            await place.post(f"message {number}")
            end, turns, news = soon(PATIENCE), number, False
            while not news:
                assert CLOCK.now().since(end) < 0, f"message {number} was lost"
                turns += 1
                waiting = asyncio.create_task(observer.wait(end))
                for _ in range(turns % 6):
                    await asyncio.sleep(0)
                waiting.cancel()
                await asyncio.wait({waiting})
                if not waiting.cancelled():
                    wake = waiting.result()
                    pushed = names(wake.pushed)
                    news = f"message {number}" in pushed if place.pushes_whole else wake.unread


async def test_a_cancelled_read_harms_nobody(place: Place) -> None:
    """A read that nobody waits for any more leaves the observer whole, and the next one loses nothing."""
    async with place.observer() as observer:
        cursor = (await read_again(observer, None, place)).cursor
        await place.post("message 1")
        for turns in range(6):
            reading = asyncio.create_task(observer.read(cursor))
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait({reading})
        batch = await read_again(observer, cursor, place)
    assert names(batch.messages) == ["message 1"]
    assert batch.readings[place.channel].continues


async def _never_read(observer: Observer, place: Place) -> None:
    await observer.wait(CLOCK.now())


async def _heard_and_read(observer: Observer, place: Place) -> None:
    await listening(observer, place)


async def _out(observer: Observer, place: Place) -> None:
    cursor = (await read_again(observer, None, place)).cursor
    await place.obstruct("outage")
    await reason(observer, cursor, place)


async def _waiting(observer: Observer, place: Place) -> None:
    await read_again(observer, None, place)
    waiting = asyncio.create_task(observer.wait(soon(PATIENCE)))
    await asyncio.wait({waiting}, timeout=0.1)
    waiting.cancel()
    await asyncio.wait({waiting})


@pytest.mark.parametrize("state", [_never_read, _heard_and_read, _out, _waiting])
async def test_leaving_is_quick_and_leaves_nothing(
    place: Place, state: Callable[[Observer, Place], Awaitable[None]]
) -> None:
    """Left in whatever state, an observer ends soon, and no thread, task or socket of it stays."""
    async with place.observer() as observer:
        await read_again(observer, None, place)
    before = await at_rest()
    for _ in range(3):
        async with place.observer() as observer:
            await state(observer, place)
            leaving = CLOCK.now()
        assert CLOCK.now().since(leaving) < 10.0
        if state is _out:
            await place.clear("outage")
    end = soon(PATIENCE)
    while any(now > then for now, then in zip(held(), before, strict=True)):
        assert CLOCK.now().since(end) < 0, f"threads, tasks, sockets: {held()} are left, {before} were there"
        await CLOCK.sleep(0.05)
