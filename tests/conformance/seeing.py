"""How the suite for observers looks: reads and waits that end within its patience, and what an observer holds."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

import pytest

from prober.clock import Instant
from prober.errors import Unreadable
from prober.model import Batch, Message
from prober.observers import Observer
from tests.conformance.place import CLOCK, Place, name_of

PATIENCE = 120.0
"""Seconds within which what must happen has happened, also on a loaded machine."""


def soon(seconds: float) -> Instant:
    return CLOCK.now().plus(seconds)


def names(messages: tuple[Message, ...]) -> list[str]:
    return [name_of(message) for message in messages]


async def read(observer: Observer, cursor: str | None, place: Place, since: Instant | None = None) -> Batch:
    """A read that sees the place's channel. Raises Unreadable, with the reason of that channel alone, too."""
    batch = await observer.read(cursor, since)
    blindness = batch.blind.get(place.channel)
    if blindness is not None:
        assert place.channel not in batch.readings, "what could not be read is claimed to be read"
        raise Unreadable(blindness.reason, blindness.detail)
    return batch


async def read_again(observer: Observer, cursor: str | None, place: Place) -> Batch:
    """A read, again and again until sight is back."""
    end = soon(PATIENCE)
    while True:
        try:
            return await read(observer, cursor, place)
        except Unreadable:
            assert CLOCK.now().since(end) < 0, "sight does not come back"
            await observer.wait(soon(0.1))


async def heard(observer: Observer, enough: Callable[[list[str], bool], bool]) -> tuple[list[Message], bool]:
    """Wait until enough is pushed, by names, or asked to be read."""
    end, messages, unread = soon(PATIENCE), list[Message](), False
    while not enough(list(map(name_of, messages)), unread):
        assert CLOCK.now().since(end) < 0, f"only {len(messages)} were pushed"
        wake = await observer.wait(end)
        messages += wake.pushed
        unread = unread or wake.unread
    return messages, unread


async def listening(observer: Observer, place: Place) -> str:
    """Wait until pushes flow; the cursor behind all that was posted for it."""
    cursor = (await read_again(observer, None, place)).cursor
    number = 0
    end = soon(PATIENCE)
    while True:
        assert CLOCK.now().since(end) < 0, "nothing is pushed"
        number -= 1
        await place.post(f"message 9999{-number}")
        wake = await observer.wait(soon(1.0))
        news = bool(wake.pushed) if place.pushes_whole else wake.unread
        batch = await read_again(observer, cursor, place)
        cursor = batch.cursor
        if news:
            await observer.wait(CLOCK.now())  # what was announced of what has been read
            return cursor


async def reason(observer: Observer, cursor: str, place: Place) -> str:
    with pytest.raises(Unreadable) as blind:
        await read(observer, cursor, place)
    assert blind.value.detail
    return blind.value.reason


def held() -> tuple[int, int, int]:
    """How many threads, tasks and sockets this process has.

    The threads of the loop's own pool, and those of the servers that answer one request, are not the observers'.
    """
    threads = [one for one in threading.enumerate() if "process_request" not in one.name and "asyncio_" not in one.name]
    links = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
    return len(threads), len(asyncio.all_tasks()), sum("socket:" in link for link in links)


async def at_rest() -> tuple[int, int, int]:
    """What is held once it changes no more: servers take a moment to notice that somebody has left."""
    same, last = 0, held()
    while same < 8:
        await CLOCK.sleep(0.05)
        now = held()
        same, last = (same + 1 if now == last else 0), now
    return last
