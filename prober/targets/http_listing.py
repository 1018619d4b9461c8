"""What a described API lists, page by page: its channels, to be verified, and its publications, to be cleaned up."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from prober.clean_up import PublishedPage
from prober.safety import Inventory, TargetChannel
from prober.targets.answer_path import value_at, values_at
from prober.targets.http_answers import MOST_ID, accepted_document
from prober.targets.http_client import Reply
from prober.targets.http_form import ChannelsForm, ErrorsForm, ListForm
from prober.targets.replies import no_json, unanswered

MOST_LISTED = 5000
"""Entries of one list that are read; a longer one counts as one that cannot be listed."""

_NOT_OFFERED = frozenset({403, 404, 405, 501})
"""Statuses by which an API says that it lists nothing, or nothing to us."""

Ask = Callable[[Sequence[tuple[str, str]]], Awaitable[Reply]]
"""The list's request with these fields more in its query."""


async def channels_of(form: ChannelsForm, errors: ErrorsForm, ask: Ask) -> Inventory:
    """Every channel that the API lists, or why it does not. Raises Refused, Unanswered, Unreachable or OwnFault."""
    found: dict[str, TargetChannel] = {}
    pages = 0
    while True:
        reply = await ask(_paged(form, len(found), pages))
        if reply.status in _NOT_OFFERED and reply.status not in form.accepted:
            return Inventory(why=f"{form.method} {form.path} answered {reply.status}")
        page, before = _entries(form, errors, reply), len(found)
        for entry in page:
            identity = _id(form, entry, reply)
            name = _text(value_at(entry, form.name))
            found[identity.lower()] = TargetChannel(identity.lower(), name, "")
        pages += 1
        if len(found) > MOST_LISTED:
            return Inventory(why=f"{form.method} {form.path} lists more than {MOST_LISTED}")
        # An API that knows no pages answers the same again: then nothing is new, and that was all.
        if form.page is None or len(found) == before:
            return Inventory(tuple(found.values()))


async def publications_of(form: ListForm, errors: ErrorsForm, ask: Ask, position: str) -> PublishedPage:
    """One page of the publications that the API lists. Raises Refused, Unanswered, Unreachable or OwnFault."""
    read, pages, last = _position(position)
    reply = await ask(_paged(form, read, pages))
    page = _entries(form, errors, reply)
    told = tuple((_id(form, entry, reply), json.dumps(entry, ensure_ascii=False)) for entry in page)
    first = told[0][0] if told else ""
    if form.page is None or not told or first == last or read + len(told) > MOST_LISTED:
        return PublishedPage(told, "")
    return PublishedPage(told, json.dumps([read + len(told), pages + 1, first]))


def _paged(form: ListForm, read: int, pages: int) -> list[tuple[str, str]]:
    page = form.page
    if page is None:
        return []
    return [(page.parameter, str(page.first + (read if page.counts == "items" else pages)))]


def _entries(form: ListForm, errors: ErrorsForm, reply: Reply) -> list[Mapping[str, Any]]:
    document = accepted_document(reply, form.accepted, errors)
    if document is None:
        raise no_json(reply)
    entries = document if form.items is None else value_at(document, form.items)
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        where = "" if form.items is None else f"at {form.items}"
        raise unanswered(reply, "the answer has no list of objects", where)
    return entries


def _id(form: ListForm, entry: Mapping[str, Any], reply: Reply) -> str:
    identity = _text(next(iter(values_at(entry, form.id)), None))
    if not 0 < len(identity) <= MOST_ID or not identity.isprintable():
        raise unanswered(reply, "an entry of the list has no id", f"at {form.id}")
    return identity


def _text(value: object) -> str:
    return str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def _position(position: str) -> tuple[int, int, str]:
    try:
        read, pages, last = json.loads(position or '[0, 0, ""]')
        return int(read), int(pages), str(last)
    except (ValueError, TypeError):
        return 0, 0, ""
