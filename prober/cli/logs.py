"""Where log lines go while a view is on the screen: warnings become notes, nothing is printed across it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog


@contextmanager
def send_logs_to(note: Callable[[str], None]) -> Iterator[None]:
    """Turn errors of our own into notes; blindness and the like are told by the run itself."""

    def keep_errors(_logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if method not in {"error", "exception", "critical"}:
            raise structlog.DropEvent
        details = ", ".join(f"{name}={value}" for name, value in event.items() if name in {"loop", "reason", "error"})
        note(f"{event['event']} ({details})")
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[keep_errors], cache_logger_on_first_use=False)
    quiet = logging.NullHandler()
    logging.getLogger().addHandler(quiet)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(quiet)
        structlog.configure(**before)
