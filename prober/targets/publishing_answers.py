"""What the Publishing Module's answers mean: the one place where a reply becomes an Answer or an error. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prober.clean_up import Removal
from prober.model import Answer, Key, KeyKind, Step, StepAction, Waypoint
from prober.targets.http_client import Reply
from prober.targets.problems import correlation_id, parse_json, read_problem
from prober.targets.replies import DEPENDENCY, at, failure, is_up, message_id, no_json, removal_of, unanswered, uuid_in

_FAILED = frozenset({"failed", "simulated", "error"})
_STATUSES = frozenset({"scheduled", "processing", "completed", "failed", "cancelled", "queued", "sent"})
_GONE, _TOO_LATE = frozenset({404, 410}), frozenset({409})
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
        raise unanswered(reply, "the answer lacks the publication's id", status_word(data))
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
        waypoints=tuple(at("created", data.get("created_at"))) if created else (),
    )


def document_of(reply: Reply) -> dict[str, Any]:
    """The object that a successful answer carries, in its envelope or bare. Raises as :func:`read_answer`."""
    if not 200 <= reply.status < 300:
        raise failure(reply)
    document = parse_json(reply.body)
    if not isinstance(document, dict):
        raise no_json(reply, "no JSON object")
    if document.get("errors"):
        problem = read_problem(reply.status, reply.headers, reply.body, reply.hide)
        raise unanswered(reply, f"success with errors: {problem.title}", problem.detail, problem)
    data = document.get("data", document)
    return data if isinstance(data, dict) else {}


def claims_of(reply: Reply) -> tuple[Waypoint, ...]:
    """What the target says about delivery, on its own clock: never proof. Raises as :func:`read_answer`."""
    data = document_of(reply)
    points = [*at("created", data.get("created_at")), *at("published", data.get("published_time"))]
    word = status_word(data)
    if word in _STATUSES:
        # Without a time of the target's own, the instant at which it told us bounds the claim.
        told = Waypoint(f"claimed_{word}", reply.answered_at.wall, "prober")
        points += list(at(f"claimed_{word}", data.get("updated_at"))) or [told]
    results = data.get("channel_results")
    own = {c.lower() for c in [*_texts(data.get("channels")), *_texts(data.get("target_channels"))][:_MOST_CHANNELS]}
    for channel, result in results.items() if isinstance(results, dict) else ():
        if channel.lower() in own and isinstance(result, dict) and status_word(result) == "success":
            points += at("claimed_delivered", result.get("delivered_at"), f"target:{channel.lower()[:80]}")
    return tuple(points)


def withdrawal_of(reply: Reply) -> Removal:
    """How a withdrawal ended. Raises TargetError for an answer after which it may be tried again."""
    return removal_of(reply, gone=_GONE, too_late=_TOO_LATE)


def health_of(reply: Reply) -> dict[str, bool | None]:
    """The state of each dependency that the target names: True up, False down, None neither.

    A 503 tells it too. Raises as :func:`read_answer` for an answer that tells nothing.
    """
    document = parse_json(reply.body)
    data = document.get("data", document) if isinstance(document, dict) else None
    if reply.status not in (200, 503) or not isinstance(data, dict) or "status" not in data:
        raise failure(reply) if reply.status >= 300 else unanswered(reply, "the answer tells no health", "")
    told: dict[str, object] = {name: data.get(f"{name}_status") for name in ("database", "redis")}
    services = data.get("external_services")
    told |= services if isinstance(services, dict) else {}
    states: dict[str, bool | None] = {}
    for name, state in told.items():
        if state is not None and DEPENDENCY.fullmatch(name) and len(states) < _MOST_DEPENDENCIES:
            states[name] = is_up(state)
    return states


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
        raise unanswered(reply, f"success that says {word or 'failed'}", _complaint(data))
    return data


def _sent_message_ids(step: Step, data: Mapping[str, Any], reply: Reply) -> Iterator[str]:
    """The provider's ids of what was sent to the step's recipient. Raises Unanswered unless something was."""
    told = data.get("delivery_results")
    results = [r for r in told[:_MOST_RESULTS] if isinstance(r, dict)] if isinstance(told, list) else []
    for result in results:
        if status_word(result) in _FAILED:
            raise unanswered(reply, f"success that says {status_word(result)}", _complaint(result))
    if data.get("failed") or not (results or data.get("successful")) or data.get("successful") == 0:
        raise unanswered(reply, "success that sent nothing", _complaint(data))
    ours = [r for r in results if str(r.get("email") or step.recipient).lower() == step.recipient.lower()]
    if len(ours) != len(results):
        raise unanswered(reply, "success that names another recipient", _complaint(data))
    for result in ours:
        value = message_id(result.get("message_id"))
        if value:
            yield value


def _complaint(data: Mapping[str, Any]) -> str:
    words = (data.get(name) for name in ("error", "error_message", "error_details", "message"))
    return next((str(word) for word in words if word), "")


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
