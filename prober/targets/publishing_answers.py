"""What the Publishing Module's answers mean: the one place where a reply becomes an Answer or an error. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from prober.clean_up import Removal
from prober.errors import Refused, TargetError, Unanswered
from prober.model import Answer, Key, KeyKind, Step, StepAction, Waypoint
from prober.targets.http_client import MOST_BODY, Reply
from prober.targets.problems import MOST_DETAIL, MOST_TITLE, Problem, clean, correlation_id, parse_json, read_problem

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MESSAGE_ID = re.compile(r"[\x21-\x7e]{6,200}")
_DEPENDENCY = re.compile(r"[a-z][a-z0-9_]{0,39}")
_FAILED = frozenset({"failed", "simulated", "error"})
_STATUSES = frozenset({"scheduled", "processing", "completed", "failed", "cancelled", "queued", "sent"})
_UP = frozenset({"connected", "healthy", "ok", "up", "available"})
_DOWN = frozenset({"disconnected", "error", "unhealthy", "down", "unavailable", "failed"})
_WITHDRAWALS = {404: Removal.GONE, 410: Removal.GONE, 409: Removal.TOO_LATE}
_NOT_NOW = frozenset({401, 408, 425, 429})
_MOST_CHANNELS = 64
_MOST_RESULTS = 100
_MOST_DEPENDENCIES = 32


def read_answer(step: Step, reply: Reply) -> Answer:
    """What the target answered to ``step``. Raises Refused for a 4xx, Unanswered for all that is no acceptance:
    a 5xx, a redirect elsewhere, and a 2xx that says failed or simulated, or lacks what it must tell."""
    data = _accepted_data(step, reply)
    created = step.action is StepAction.CREATE
    publication_id = uuid_in(data.get("id")) if created else step.publication_id.lower()
    if not publication_id:
        raise _unanswered(reply, "the answer lacks the publication's id", status_word(data))
    learned: tuple[Key, ...] = ()
    if created:
        learned = (Key(KeyKind.PUBLICATION_ID, publication_id),)
    elif step.action is StepAction.SEND:
        learned = tuple(Key(KeyKind.MESSAGE_ID, value) for value in _sent_message_ids(step, data, reply))
    return Answer(
        status=reply.status,
        requested_at=reply.requested_at,
        answered_at=reply.answered_at,
        publication_id=publication_id,
        learned=learned,
        correlation_id=correlation_id(reply.headers, parse_json(reply.body), reply.hide),
        waypoints=tuple(_at("created", data.get("created_at"))) if created else (),
    )


def failure(reply: Reply) -> TargetError:
    """The error that an answer without success is."""
    problem = read_problem(reply.status, reply.headers, reply.body, reply.hide)
    if 400 <= reply.status < 500:
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
        return _unanswered(reply, "redirected", f"to {place}" if place else "", problem)
    return _unanswered(reply, problem.title, problem.detail, problem)


def document_of(reply: Reply) -> dict[str, Any]:
    """The object that a successful answer carries, in its envelope or bare. Raises as :func:`read_answer`."""
    if not 200 <= reply.status < 300:
        raise failure(reply)
    document = parse_json(reply.body)
    if not isinstance(document, dict):
        size = f"it is longer than {MOST_BODY} bytes" if reply.cut else ""
        raise _unanswered(reply, "the answer is no JSON object", size or reply.body.decode("utf-8", "replace"))
    if document.get("errors"):
        problem = read_problem(reply.status, reply.headers, reply.body, reply.hide)
        raise _unanswered(reply, f"success with errors: {problem.title}", problem.detail, problem)
    data = document.get("data", document)
    return data if isinstance(data, dict) else {}


def claims_of(reply: Reply) -> tuple[Waypoint, ...]:
    """What the target says about delivery, on its own clock: never proof. Raises as :func:`read_answer`."""
    data = document_of(reply)
    points = [*_at("created", data.get("created_at")), *_at("published", data.get("published_time"))]
    word = status_word(data)
    if word in _STATUSES:
        # Without a time of the target's own, the instant at which it told us bounds the claim.
        told = Waypoint(f"claimed_{word}", reply.answered_at.wall, "prober")
        points += list(_at(f"claimed_{word}", data.get("updated_at"))) or [told]
    results = data.get("channel_results")
    own = {c.lower() for c in [*_texts(data.get("channels")), *_texts(data.get("target_channels"))][:_MOST_CHANNELS]}
    for channel, result in results.items() if isinstance(results, dict) else ():
        if channel.lower() in own and isinstance(result, dict) and status_word(result) == "success":
            points += _at("claimed_delivered", result.get("delivered_at"), f"target:{channel.lower()[:80]}")
    return tuple(points)


def withdrawal_of(reply: Reply) -> Removal:
    """How a withdrawal ended. Raises TargetError for an answer after which it may be tried again."""
    if 200 <= reply.status < 300:
        return Removal.REMOVED
    if 400 <= reply.status < 500 and reply.status not in _NOT_NOW:
        return _WITHDRAWALS.get(reply.status, Removal.DENIED)
    raise failure(reply)


def health_of(reply: Reply) -> dict[str, bool | None]:
    """The state of each dependency that the target names: True up, False down, None neither.

    A 503 tells it too. Raises as :func:`read_answer` for an answer that tells nothing.
    """
    document = parse_json(reply.body)
    data = document.get("data", document) if isinstance(document, dict) else None
    if reply.status not in (200, 503) or not isinstance(data, dict) or "status" not in data:
        raise failure(reply) if reply.status >= 300 else _unanswered(reply, "the answer tells no health", "")
    told: dict[str, object] = {name: data.get(f"{name}_status") for name in ("database", "redis")}
    services = data.get("external_services")
    told |= services if isinstance(services, dict) else {}
    states: dict[str, bool | None] = {}
    for name, state in told.items():
        if state is not None and _DEPENDENCY.fullmatch(name) and len(states) < _MOST_DEPENDENCIES:
            states[name] = _is_up(state)
    return states


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


def uuid_in(value: object) -> str:
    """The UUID in lower case, empty for what is none: nothing else is sure enough to recognise a message by."""
    text = value.strip().lower() if isinstance(value, str) else ""
    return text if _UUID.fullmatch(text) else ""


def status_word(data: Mapping[str, Any]) -> str:
    """The object's ``status`` in lower case, empty where it has none."""
    word = data.get("status")
    return word.strip().lower() if isinstance(word, str) else ""


def _accepted_data(step: Step, reply: Reply) -> dict[str, Any]:
    if step.action is StepAction.CANCEL and 200 <= reply.status < 300 and not reply.body.strip():
        return {}
    data = document_of(reply)
    word = status_word(data)
    if word in _FAILED or data.get("success") is False:
        raise _unanswered(reply, f"success that says {word or 'failed'}", _complaint(data))
    return data


def _sent_message_ids(step: Step, data: Mapping[str, Any], reply: Reply) -> Iterator[str]:
    """The provider's ids of what was sent to the step's recipient. Raises Unanswered unless something was."""
    told = data.get("delivery_results")
    results = [r for r in told[:_MOST_RESULTS] if isinstance(r, dict)] if isinstance(told, list) else []
    for result in results:
        if status_word(result) in _FAILED:
            raise _unanswered(reply, f"success that says {status_word(result)}", _complaint(result))
    if data.get("failed") or not (results or data.get("successful")) or data.get("successful") == 0:
        raise _unanswered(reply, "success that sent nothing", _complaint(data))
    ours = [r for r in results if str(r.get("email") or step.recipient).lower() == step.recipient.lower()]
    if len(ours) != len(results):
        raise _unanswered(reply, "success that names another recipient", _complaint(data))
    for result in ours:
        value = _message_id(result.get("message_id"))
        if value:
            yield value


def _message_id(value: object) -> str:
    """An id as messages show it: without brackets, and for SES without the domain."""
    text = value.strip().strip("<>") if isinstance(value, str) else ""
    local, _, domain = text.rpartition("@")
    if local and domain.lower().endswith("amazonses.com"):
        text = local
    return text if _MESSAGE_ID.fullmatch(text) else ""


def _complaint(data: Mapping[str, Any]) -> str:
    words = (data.get(name) for name in ("error", "error_message", "error_details", "message"))
    return next((str(word) for word in words if word), "")


def _unanswered(reply: Reply, title: str, detail: str, problem: Problem | None = None) -> Unanswered:
    known = problem.correlation_id if problem else correlation_id(reply.headers, parse_json(reply.body), reply.hide)
    return Unanswered(
        clean(title, MOST_TITLE, reply.hide),
        clean(detail, MOST_DETAIL, reply.hide),
        status=reply.status,
        correlation_id=known,
        requested_at=reply.requested_at,
        answered_at=reply.answered_at,
    )


def _at(name: str, text: object, source: str = "target") -> Iterator[Waypoint]:
    parsed = parse_time(text)
    if parsed is not None:
        yield Waypoint(name, parsed[0], source, parsed[1])


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _is_up(state: object) -> bool | None:
    if isinstance(state, bool):
        return state
    word = state.strip().lower() if isinstance(state, str) else ""
    return True if word in _UP else False if word in _DOWN else None
