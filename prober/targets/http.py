"""Any publishing API as a target: its requests and answers are described in the configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

from prober.clean_up import PublishedPage, Removal
from prober.clock import Clock
from prober.errors import OwnFault
from prober.findings import Examined
from prober.model import Answer, Publication, Step, StepAction, Waypoint
from prober.safety import Inventory
from prober.targets.access import (
    Access,
    ensure_allowed,
    ensure_one_recipient,
    idempotency_key,
    marks,
    plain,
    traceparent,
)
from prober.targets.http_answers import claims_of, health_of, read_answer
from prober.targets.http_client import Reply
from prober.targets.http_examination import examine_described
from prober.targets.http_form import HttpSettings, RequestForm, StepForm, known_in
from prober.targets.http_listing import channels_of, publications_of
from prober.targets.replies import removal_of
from prober.targets.template import OWN, Template, Value, compiled, fill, fill_json, fill_whole, parse
from prober.trace_ids import step_span_id

_REDACTED = "REDACTED"
"""What OpenTelemetry's conventions write in the place of a secret in a URL."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """One request with its templates parsed."""

    form: RequestForm
    path: Template
    query: Mapping[str, Any]
    headers: Mapping[str, Template]
    json: Any
    fields: Mapping[str, Any] | None
    known_as: Template


class HttpTarget:
    """The target behind one URL. Entered as an async context manager.

    Constructing it raises TemplateProblem (a ValueError) for a template that :func:`read_settings` has not checked,
    ConfigurationError for a ``ca_file`` and OwnFault for a token that cannot be used.
    """

    def __init__(self, settings: HttpSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._own = {name: value.get_secret_value() for name, value in settings.values.items()}
        self._access = Access(
            settings,
            clock,
            auth_header=settings.auth_header,
            auth_scheme=settings.auth_scheme,
            secrets=tuple(self._own.values()),
        )
        self.acts = self._access.acts
        forms: dict[str, RequestForm | None] = {action: getattr(settings.steps, action) for action in StepAction}
        forms |= {"status": settings.status, "withdraw": settings.withdraw, "health": settings.health}
        if settings.listing is not None:
            forms |= {"channels": settings.listing.channels, "publications": settings.listing.publications}
        self._plans = {name: _plan(form, known_in(name, self._own)) for name, form in forms.items() if form}

    async def __aenter__(self) -> Self:
        await self._access.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._access.__aexit__(kind, error, trace)

    async def take(self, step: Step, publication: Publication) -> Answer:
        """As the seam says."""
        form: StepForm | None = getattr(self._settings.steps, step.action)
        if form is None:
            raise OwnFault(f"no step {step.action} is described", f"describe it under target.steps.{step.action}")
        if step.action is not StepAction.CANCEL:
            ensure_allowed(publication.target_channels, self._settings.channels)
        if step.action is StepAction.SEND:
            ensure_one_recipient(step.recipient)
        values = _values(step, publication)
        known_as = fill(self._plans[step.action].known_as, self._with_ours(values)) or ""
        reply = await self._ask(step.action, values, marks(step, publication))
        return read_answer(step, form, self._settings.errors, reply, known_as)

    def announce(self, step: Step, publication: Publication) -> str:
        """See :class:`prober.targets.Announcing`; the configuration's own values, which may be secret, are left out."""
        plan = self._plans.get(step.action)
        if plan is None:
            return ""
        hidden = dict.fromkeys((f"{OWN}{name}" for name in self._own), _REDACTED)
        path = fill(plan.path, {**_values(step, publication), **hidden, **self._moment()}, _segment) or "/"
        return f"{plan.form.method} {self._settings.url}{path}"

    async def claims(self, publication_id: str) -> tuple[Waypoint, ...]:
        """As the seam says; nothing where no status call is described."""
        form = self._settings.status
        if form is None:
            return ()
        reply = await self._ask("status", {"publication_id": publication_id})
        return claims_of(form, self._settings.errors, reply)

    async def withdraw(self, publication_id: str) -> Removal:
        """As the seam says; where no such call is described, it is denied."""
        form = self._settings.withdraw
        if form is None:
            return Removal.DENIED
        reply = await self._ask("withdraw", {"publication_id": publication_id})
        refused = self._settings.errors.refused
        return removal_of(reply, accepted=form.accepted, gone=form.gone, too_late=form.too_late, refused=refused)

    async def published(self, position: str) -> PublishedPage:
        """See :class:`prober.targets.Recounting`; nothing where no such list is described."""
        form = self._settings.listing.publications if self._settings.listing else None
        if form is None:
            return PublishedPage((), "")
        ask = partial(self._ask, "publications", {}, None)
        return await publications_of(form, self._settings.errors, ask, position)

    async def inventory(self) -> Inventory:
        """See :class:`prober.targets.Listing`; it knows no subscribers."""
        form = self._settings.listing.channels if self._settings.listing else None
        if form is None:
            return Inventory()
        return await channels_of(form, self._settings.errors, partial(self._ask, "channels", {}, None))

    async def health(self) -> dict[str, bool | None]:
        """As the seam says; nothing where no such call is described."""
        form = self._settings.health
        return {} if form is None else health_of(form, self._settings.errors, await self._ask("health", {}))

    async def examine(self) -> Examined:
        """What its health call tells; see :class:`prober.targets.Examinable`."""
        return await examine_described(self.health if self._settings.health else None)

    def _with_ours(self, values: Mapping[str, Value]) -> dict[str, Value]:
        own = {f"{OWN}{name}": value for name, value in self._own.items()}
        return {**values, **own, **self._moment()}

    def _moment(self) -> dict[str, Value]:
        now = self._clock.now().wall
        return {"now": now, "now_unix": now}

    async def _ask(
        self,
        name: str,
        given: Mapping[str, Value],
        marked: Mapping[str, str] | None = None,
        more: Sequence[tuple[str, str]] = (),
    ) -> Reply:
        plan, values = self._plans[name], self._with_ours(given)
        path = fill(plan.path, values, _segment) or "/"
        query = [*_pairs(plan.query, values), *more]
        url = f"{self._settings.url}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = dict(marked or {})
        for header, template in plan.headers.items():
            told = fill(template, values, plain)
            headers |= {} if told is None else {header: told}
        body = b""
        if plan.json is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(fill_json(plan.json, values)).encode()
        elif plan.fields is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode(_pairs(plan.fields, values)).encode()
        return await self._access.ask(plan.form.method, url, headers, body, auth=plan.form.auth)


def _plan(form: RequestForm, known: tuple[str, ...]) -> _Plan:
    return _Plan(
        form=form,
        path=parse(form.path, known),
        query=compiled(form.query, known),
        headers=compiled(form.headers, known),
        json=compiled(form.json_body, known),
        fields=None if form.form is None else compiled(form.form, known),
        known_as=parse((form.known_as or "") if isinstance(form, StepForm) else "", known),
    )


def _pairs(templates: Mapping[str, Any], values: Mapping[str, Value]) -> list[tuple[str, str]]:
    """The fields of a form or a query; one that is a list stands several times, one to be left out not at all."""
    pairs: list[tuple[str, str]] = []
    for name, template in templates.items():
        for one in template if isinstance(template, list) else [template]:
            filled = fill_whole(one, values)
            told = filled if isinstance(filled, list) else [] if filled is None else [filled]
            pairs += [(name, str(text)) for text in told]
    return pairs


def _segment(value: str) -> str:
    """A value as a part of a path: it can neither end its segment nor climb out of it."""
    if value in (".", ".."):
        raise OwnFault("a value that would change the request's path", "the target told an id that is none")
    return quote(value, safe="")


def _values(step: Step, publication: Publication) -> dict[str, Value]:
    """What the placeholders of a step stand for."""
    channels = publication.target_channels
    values: dict[str, Value] = {
        "marker": publication.marker,
        "content_id": publication.content_id,
        "probe": publication.probe,
        "scenario": publication.scenario,
        "kind": publication.kind.value,
        "priority": publication.priority,
        "template_id": publication.template_id,
        "subject": publication.subject,
        "text": publication.text,
        "channels": channels,
        "channel": channels[0] if len(channels) == 1 else "",
        "correlation_id": publication.correlation_id or publication.probe,
        "idempotency_key": idempotency_key(step),
        "trace_id": publication.trace_id,
        "span_id": step_span_id(publication, step.number),
        "traceparent": traceparent(step, publication),
        "recipient": step.recipient,
        "publication_id": step.publication_id,
    }
    if publication.scheduled_time is not None:
        values |= {"scheduled_time": publication.scheduled_time, "scheduled_unix": publication.scheduled_time}
    return values
