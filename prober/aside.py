"""A blocking call beside the loop, in a thread that nobody waits for once the call is given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

T = TypeVar("T")


async def aside(act: Callable[[], T], name: str) -> T:
    """What ``act`` returns or raises. Cancelled, it goes on unheard: a daemon thread keeps no process from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(settle: Callable[[], None]) -> None:
        if not answer.done():
            settle()

    def work() -> None:
        try:
            settle = partial(answer.set_result, act())
        except Exception as error:  # noqa: BLE001 - raised again where it is awaited
            settle = partial(answer.set_exception, error)
        with suppress(RuntimeError):  # the loop has ended: nobody is there to be told
            loop.call_soon_threadsafe(tell, settle)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await answer
