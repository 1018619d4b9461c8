"""What any target's reply means before its own words are read: errors, times, ids. Pure."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from datetime import UTC, datetime

from prober.clean_up import Removal
from prober.errors import Refused, TargetError, Unanswered
from prober.model import Waypoint
from prober.targets.http_client import MOST_BODY, Reply
from prober.targets.problems import MOST_DETAIL, MOST_TITLE, Problem, clean, correlation_id, parse_json, read_problem

DEPENDENCY = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""What the name of a target's dependency may be: it becomes a label."""

UP = frozenset({"connected", "healthy", "ok", "up", "available"})
DOWN = frozenset({"disconnected", "error", "unhealthy", "down", "unavailable", "failed"})

_NOT_NOW = frozenset({401, 408, 425, 429})
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MESSAGE_ID = re.compile(r"[\x21-\x7e]{6,200}")


def failure(reply: Reply, problem: Problem | None = None, *, refused: bool | None = None) -> TargetError:
    """The error that an answer without success is: a refusal (by default a 4xx), a redirect, or no acceptance.

    ``problem`` is what it says went wrong, if that is known already.
    """
    problem = problem or read_problem(reply.status, reply.headers, reply.body, reply.hide)
    if 400 <= reply.status < 500 if refused is None else refused:
        detail = problem.detail
        wait = reply.headers.get("retry-after")
        if reply.status == 429 and wait:
            detail = f"{detail} (Retry-After: {clean(wait, 40, reply.hide)})".strip()
        return Refused(
            problem.title,
            detail,
            status=reply.status,
            correlation_id=problem.correlation_id,
            requested_at=reply.requested_at,
            answered_at=reply.answered_at,
        )
    if 300 <= reply.status < 400:
        place = reply.headers.get("location", "").partition("?")[0]
        return unanswered(reply, "redirected", f"to {place}" if place else "", problem)
    return unanswered(reply, problem.title, problem.detail, problem)


def unanswered(reply: Reply, title: str, detail: str, problem: Problem | None = None) -> Unanswered:
    """The error that an answer is which is no acceptance, though something may have been published."""
    known = problem.correlation_id if problem else correlation_id(reply.headers, parse_json(reply.body), reply.hide)
    return Unanswered(
        clean(title, MOST_TITLE, reply.hide),
        clean(detail, MOST_DETAIL, reply.hide),
        status=reply.status,
        correlation_id=known,
        requested_at=reply.requested_at,
        answered_at=reply.answered_at,
    )


def no_json(reply: Reply, what: str = "no JSON") -> Unanswered:
    """The error that a success is whose body cannot be read."""
    size = f"it is longer than {MOST_BODY} bytes" if reply.cut else ""
    return unanswered(reply, f"the answer is {what}", size or reply.body.decode("utf-8", "replace"))


def parse_time(text: object) -> tuple[float, float] | None:
    """ISO 8601 as wall seconds and resolution in seconds; without a zone it is UTC. None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        when = datetime.fromisoformat(text.strip())
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
        wall = when.timestamp()
    except (ValueError, OverflowError):
        return None
    fraction = re.search(r":\d{2}[.,](\d+)", text)
    return wall, 10.0 ** -min(len(fraction[1]), 6) if fraction else 1.0


def at(name: str, text: object, source: str = "target") -> Iterator[Waypoint]:
    """The waypoint at a time that the target told, none where it is no time."""
    parsed = parse_time(text)
    if parsed is not None:
        yield Waypoint(name, parsed[0], source, parsed[1])


def message_id(value: object) -> str:
    """A message's id as messages show it: without brackets, and for SES without the domain. Empty for what is none."""
    text = value.strip().strip("<>") if isinstance(value, str) else ""
    local, _, domain = text.rpartition("@")
    if local and domain.lower().endswith("amazonses.com"):
        text = local
    return text if _MESSAGE_ID.fullmatch(text) else ""


def removal_of(
    reply: Reply,
    *,
    gone: Container[int],
    too_late: Container[int],
    accepted: Container[int] = range(200, 300),
    refused: Container[int] = range(400, 500),
) -> Removal:
    """How a withdrawal ended. Raises TargetError for an answer after which it may be tried again."""
    if reply.status in accepted:
        return Removal.REMOVED
    if reply.status in gone:
        return Removal.GONE
    if reply.status in too_late:
        return Removal.TOO_LATE
    if reply.status in refused and reply.status not in _NOT_NOW:
        return Removal.DENIED
    raise failure(reply)


def uuid_in(value: object) -> str:
    """The UUID in lower case, empty for what is none: nothing else is sure enough to recognise a message by."""
    text = value.strip().lower() if isinstance(value, str) else ""
    return text if _UUID.fullmatch(text) else ""


def is_up(state: object, up: Container[str] = UP, down: Container[str] = DOWN) -> bool | None:
    """A dependency's state by the word for it: True up, False down, None neither."""
    if isinstance(state, bool):
        return state
    word = state.strip().lower() if isinstance(state, str) else ""
    return True if word in up else False if word in down else None
