"""What a described API's answers mean: the one place where a reply becomes an Answer or an error. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from prober.errors import TargetError
from prober.model import Answer, Key, KeyKind, Step, StepAction, Waypoint
from prober.targets.answer_path import is_optional, value_at, values_at, word
from prober.targets.http_client import Reply
from prober.targets.http_form import ErrorsForm, HealthForm, StatusForm, StepForm
from prober.targets.problems import (
    MOST_CORRELATION_ID,
    MOST_DETAIL,
    MOST_TITLE,
    Problem,
    clean,
    correlation_id,
    parse_json,
    read_problem,
)
from prober.targets.replies import at, failure, is_up, message_id, no_json, unanswered, uuid_in

MOST_ID = 64
"""Characters of a publication's id."""


def read_answer(step: Step, form: StepForm, errors: ErrorsForm, reply: Reply, known_as: str) -> Answer:
    """What the target answered to ``step``. Raises Refused for a status by which it says no, Unanswered for all else
    that is no acceptance: also for a success that says failed, or lacks what it must tell."""
    document = accepted_document(reply, form.accepted, errors)
    _ensure_success(form, errors, reply, document)
    publication_id = known_as or step.publication_id
    if form.publication_id:
        publication_id = _id(form.publication_id, reply, document) or publication_id
    return Answer(
        status=reply.status,
        requested_at=reply.requested_at,
        answered_at=reply.answered_at,
        publication_id=publication_id,
        learned=tuple(_learned(step, form, reply, document, publication_id)),
        correlation_id=_correlation_id(errors, reply, document),
        waypoints=tuple(point for name, path in form.times.items() for point in at(name, value_at(document, path))),
    )


def claims_of(form: StatusForm, errors: ErrorsForm, reply: Reply) -> tuple[Waypoint, ...]:
    """What the target says about delivery, on its own clock: never proof. Raises as :func:`read_answer`."""
    document = accepted_document(reply, form.accepted, errors)
    if document is None:
        raise no_json(reply)
    points = [point for name, path in form.times.items() for point in at(name, value_at(document, path))]
    state = word(value_at(document, form.state))
    if state in form.states:
        # Without a time of the target's own, the instant at which it told us bounds the claim.
        told = Waypoint(f"claimed_{state}", reply.answered_at.wall, "prober")
        points += list(at(f"claimed_{state}", value_at(document, form.state_at))) or [told]
    return tuple(points)


def health_of(form: HealthForm, errors: ErrorsForm, reply: Reply) -> dict[str, bool | None]:
    """The state of each dependency: True up, False down, None neither. Raises as :func:`read_answer`."""
    document = accepted_document(reply, form.accepted, errors)
    if document is None:
        raise no_json(reply)
    states = {name: value_at(document, path) for name, path in form.dependencies.items()}
    if all(state is None for state in states.values()):
        raise unanswered(reply, "the answer tells no health", "")
    return {name: is_up(state, form.up, form.down) for name, state in states.items()}


def accepted_document(reply: Reply, accepted: frozenset[int], errors: ErrorsForm) -> Any:
    """The JSON of a success, None for none. Raises as :func:`read_answer`."""
    if reply.status not in accepted:
        raise _failure(errors, reply)
    return parse_json(reply.body)


def _failure(errors: ErrorsForm, reply: Reply) -> TargetError:
    problem = _problem(errors, reply, read_problem(reply.status, reply.headers, reply.body, reply.hide))
    return failure(reply, problem, refused=reply.status in errors.refused)


def _problem(errors: ErrorsForm, reply: Reply, usual: Problem) -> Problem:
    """The usual reading of an error, and in its place what stands where the description says."""
    document = parse_json(reply.body)
    title, detail = (_text(value_at(document, path)) for path in (errors.title, errors.detail))
    known = _correlation_id(errors, reply, document)
    return replace(
        usual,
        title=clean(title, MOST_TITLE, reply.hide) or usual.title,
        detail=clean(detail, MOST_DETAIL, reply.hide) or usual.detail,
        correlation_id=known or usual.correlation_id,
    )


def _correlation_id(errors: ErrorsForm, reply: Reply, document: object) -> str:
    told = _text(value_at(document, errors.correlation_id))
    return clean(told, MOST_CORRELATION_ID, reply.hide) or correlation_id(reply.headers, document, reply.hide)


def _ensure_success(form: StepForm, errors: ErrorsForm, reply: Reply, document: object) -> None:
    if form.failed and document is None and reply.body.strip():
        raise no_json(reply)
    for path, words in form.failed.items():
        said = next((one for value in values_at(document, path) if (one := word(value)) in words), None)
        if said is not None:
            problem = _problem(errors, reply, Problem("", ""))
            detail = ": ".join(part for part in (problem.title, problem.detail) if part)
            raise unanswered(reply, f"success that says {said}", detail, problem)


def _id(path: str, reply: Reply, document: object) -> str:
    value = value_at(document, path)
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str) and 0 < len(text) <= MOST_ID and text.isprintable():
        return text
    if is_optional(path) and value is None:
        return ""
    if document is None:
        raise no_json(reply)
    what = "lacks the publication's id" if value is None else "has a publication's id that is none"
    raise unanswered(reply, f"the answer {what}", f"at {path}")


def _learned(step: Step, form: StepForm, reply: Reply, document: object, publication_id: str) -> Iterator[Key]:
    # Only what cannot stand in a message by chance: a UUID, and ids of messages.
    if step.action is StepAction.CREATE and form.publication_id and uuid_in(publication_id):
        yield Key(KeyKind.PUBLICATION_ID, uuid_in(publication_id))
    if form.message_ids:
        ids = [found for value in values_at(document, form.message_ids) if (found := message_id(value))]
        if not ids and not is_optional(form.message_ids):
            raise unanswered(reply, "the answer lacks the message's id", f"at {form.message_ids}")
        yield from (Key(KeyKind.MESSAGE_ID, value) for value in dict.fromkeys(ids))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
