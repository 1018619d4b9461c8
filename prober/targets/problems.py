"""Reading what a target says went wrong: four shapes of error bodies into one title and detail. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

MOST_TITLE = 200
MOST_DETAIL = 1000
MOST_CORRELATION_ID = 200
_MOST_FINDINGS = 5
_HIDDEN = "[hidden]"

Hidden = tuple[str, ...]
"""Secrets, none empty, that no error may show should the other side repeat them."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What the target said: one line each, bounded, printable; ``detail`` may be empty."""

    title: str
    detail: str = ""
    correlation_id: str = ""


def clean(text: object, limit: int, hide: Hidden = ()) -> str:
    """``text`` as one printable line of at most ``limit`` characters, without the secrets ``hide``."""
    words = str(text)
    for secret in hide:
        words = words.replace(secret, _HIDDEN)
    words = " ".join("".join(c if c.isprintable() else " " for c in words[: 4 * limit]).split())
    return words if len(words) <= limit else words[: limit - 1] + "…"


def parse_json(body: bytes) -> object:
    """The JSON value of a body, None for anything that is none (also for what nests too deeply)."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def phrase(status: int) -> str:
    """The standard's name of a status, e.g. ``Not Found``."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP status {status}"


def read_problem(status: int, headers: Mapping[str, str], body: bytes, hide: Hidden = ()) -> Problem:
    """The error that an answer tells, whatever its shape; never raises.

    Understood are the envelope with ``errors``, RFC 7807, a list of validation findings below ``detail``, and a
    plain ``detail``. Anything else is quoted from its beginning. ``headers`` have lower-case names.
    """
    document = parse_json(body)
    if isinstance(document, dict):
        title, detail = _from_document(status, document)
    else:
        title, detail = phrase(status), body.decode("utf-8", "replace")
    title = clean(title, MOST_TITLE, hide) or phrase(status)
    detail = clean(detail, MOST_DETAIL, hide)
    return Problem(title, "" if detail == title else detail, correlation_id(headers, document, hide))


def correlation_id(headers: Mapping[str, str], document: object, hide: Hidden = ()) -> str:
    """The id by which the target finds this request in its logs: header, ``meta.request_id`` or ``traceId``."""
    fields = document if isinstance(document, dict) else {}
    meta = fields.get("meta")
    first = _first_error(fields)
    candidates = (
        headers.get("x-correlation-id"),
        meta.get("request_id") if isinstance(meta, dict) else None,
        fields.get("traceId"),
        first.get("traceId") if isinstance(first, dict) else None,
    )
    for candidate in candidates:
        if candidate and isinstance(candidate, str):
            return clean(candidate, MOST_CORRELATION_ID, hide)
    return ""


def _first_error(fields: Mapping[str, Any]) -> object:
    errors = fields.get("errors")
    if isinstance(errors, list):
        return errors[0] if errors else None
    return errors


def _from_document(status: int, fields: Mapping[str, Any]) -> tuple[str, str]:
    first = _first_error(fields)
    if first:
        title, words = _members(first, status)
        more = len(fields["errors"]) - 1 if isinstance(fields["errors"], list) else 0
        return title, f"{words} (and {more} more)" if more else words
    detail = fields.get("detail")
    if isinstance(detail, list):
        return _words(fields.get("title")) or phrase(status), _findings(detail)
    return _members(fields, status)


def _members(problem: object, status: int) -> tuple[str, str]:
    """Title and detail of an object with RFC 7807 members, or of what stands in for one."""
    if not isinstance(problem, dict):
        return phrase(status), _words(problem)
    detail = problem.get("detail")
    if isinstance(detail, dict):
        return _members(detail, status)
    title = _words(problem.get("title")) or phrase(status)
    words = (_words(problem.get(name)) for name in ("detail", "message", "msg", "error", "error_message"))
    return title, next((word for word in words if word), "")


def _findings(findings: list[Any]) -> str:
    """Validation findings, each as ``place: message``."""
    told = []
    for finding in findings[:_MOST_FINDINGS]:
        if not isinstance(finding, dict):
            told.append(_words(finding))
            continue
        loc = finding.get("loc")
        place = ".".join(str(part) for part in loc[:10]) if isinstance(loc, list) else ""
        told.append(": ".join(part for part in (place, _words(finding.get("msg"))) if part))
    more = len(findings) - _MOST_FINDINGS
    return "; ".join(word for word in told if word) + (f" (and {more} more)" if more > 0 else "")


def _words(value: object) -> str:
    """A text as it is, other plain values as JSON, nothing for nothing."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value)
