"""How an API is described in YAML: requests as templates, where things stand in answers, what statuses mean."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from prober.errors import ConfigurationError
from prober.model import StepAction
from prober.references import has_reference
from prober.targets.access import HEADER_NAME, OUR_HEADERS, AccessSettings
from prober.targets.answer_path import check_path
from prober.targets.replies import DEPENDENCY, DOWN, UP
from prober.targets.template import (
    ALWAYS,
    OF_ID,
    OF_PUBLICATION,
    OF_RECIPIENT,
    OWN,
    TemplateProblem,
    parse,
    texts_in,
)
from prober.validation import first_of, validate_adapter
from prober.yaml_source import Loc, Located, sealed

_PATH = re.compile(r"/(?!/)(?:[A-Za-z0-9._~!$&'()*+,;=:@%/{}-]|\{[^{}/]*\})*")
_STATUS = re.compile(r"([1-5])xx|([1-5]\d\d)(?:-([1-5]\d\d))?")
_WAYPOINT = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TEMPLATED = ("path", "query", "headers", "form", "json", "known_as")


def _statuses(value: Any) -> Any:
    """``4xx``, ``200-204`` and ``409`` as the statuses that they are."""
    if not isinstance(value, (list, tuple)):
        return value
    found: set[int] = set()
    for one in value:
        match = _STATUS.fullmatch(str(one))
        if match is None:
            raise ValueError(f"{str(one)[:40]!r} is no status: write 409, 200-204 or 4xx")
        first = int(match[1]) * 100 if match[1] else int(match[2])
        last = first + 99 if match[1] else int(match[3] or match[2])
        found |= set(range(first, last + 1))
    return frozenset(found)


def _words(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    return [str(one).lower() if isinstance(one, (bool, int, str)) else one for one in value]


def _named(names: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in names:
        if not _WAYPOINT.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is no name: use a to z, 0 to 9 and '_'")
    return names


Statuses = Annotated[frozenset[int], BeforeValidator(_statuses)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words), Field(min_length=1)]
AnswerPath = Annotated[str, AfterValidator(check_path)]
Paths = Annotated[dict[str, AnswerPath], AfterValidator(_named)]

SUCCESS = frozenset(range(200, 300))


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class RequestForm(_Form):
    """One request. ``path`` follows the target's url; of ``json`` and ``form`` at most one is the body; ``accepted``
    are the statuses that mean success."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    path: str
    query: dict[str, str | tuple[str, ...]] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    json_body: Any = Field(default=None, alias="json")
    form: dict[str, str | tuple[str, ...]] | None = None
    auth: bool = True
    accepted: Statuses = SUCCESS

    @field_validator("path")
    @classmethod
    def _below_the_url(cls, path: str) -> str:
        if not _PATH.fullmatch(path):
            raise ValueError("must begin with one '/' and hold no other characters than a URL's path: see query")
        return path

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            if name.lower() in OUR_HEADERS:
                raise ValueError(f"{name} is set by the prober itself")
            if not HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name[:40]!r} has characters that no header can carry")
        return headers

    @model_validator(mode="after")
    def _one_body(self) -> Self:
        if self.json_body is not None and self.form is not None:
            raise ValueError("give only one of json and form")
        return self


class StepForm(RequestForm):
    """A request that is a step, and what its answer tells.

    ``publication_id`` is where the target's id for the publication stands; ``known_as`` is a text of ours by which
    it knows the publication instead. ``message_ids`` are the provider's, ``times`` become waypoints, ``failed`` are
    words by which a success says that it is none. A path that ends with ``?`` may lead to nothing.
    """

    publication_id: AnswerPath | None = None
    known_as: str | None = None
    message_ids: AnswerPath | None = None
    times: Paths = Field(default_factory=dict)
    failed: dict[AnswerPath, Words] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_id(self) -> Self:
        if self.publication_id and self.known_as:
            raise ValueError("give only one of publication_id and known_as")
        return self


class StepsForm(_Form):
    """The steps by their actions: only ``create`` must be there."""

    create: StepForm
    send: StepForm | None = None
    cancel: StepForm | None = None


class ErrorsForm(_Form):
    """``refused`` are the statuses by which the target says no; any other without success leaves it open whether
    something was published. The paths lead into an error's body; without them the usual shapes are understood."""

    refused: Statuses = frozenset(range(400, 500))
    title: AnswerPath | None = None
    detail: AnswerPath | None = None
    correlation_id: AnswerPath | None = None


class StatusForm(RequestForm):
    """What the target says about a publication. ``state`` is a word, of which those in ``states`` become waypoints
    ``claimed_<word>`` at the time at ``state_at``; ``times`` are further waypoints."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    state: AnswerPath | None = None
    states: Words = ()
    state_at: AnswerPath | None = None
    times: Paths = Field(default_factory=dict)

    @field_validator("states")
    @classmethod
    def _plain_states(cls, states: tuple[str, ...]) -> tuple[str, ...]:
        _named(dict.fromkeys(states))
        return states


class WithdrawForm(RequestForm):
    """Takes a publication back, which may be repeated. ``gone`` and ``too_late`` are statuses that end it, too."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "DELETE"
    gone: Statuses = frozenset({404, 410})
    too_late: Statuses = frozenset({409})


class HealthForm(RequestForm):
    """Which of the target's dependencies are up, by the words for it; asked once a minute at most."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    accepted: Statuses = frozenset({200, 503})
    dependencies: Paths
    up: Words = tuple(sorted(UP))
    down: Words = tuple(sorted(DOWN))

    @field_validator("dependencies")
    @classmethod
    def _labels(cls, dependencies: dict[str, str]) -> dict[str, str]:
        for name in dependencies:
            if not DEPENDENCY.fullmatch(name):
                raise ValueError(f"{name[:40]!r} is no name: use a to z, 0 to 9 and '_'")
        return dependencies


class PageForm(_Form):
    """How a list is turned: ``parameter`` of the query says how many items, or pages, were read before."""

    parameter: str = Field(min_length=1)
    counts: Literal["items", "pages"] = "items"
    first: int = Field(default=0, ge=0, le=1)


class ListForm(RequestForm):
    """A request that lists something. ``items`` is where the list stands, the answer itself without it; ``id`` is a
    path in each of its items. With ``page`` it is asked until nothing new comes."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    items: AnswerPath | None = None
    id: AnswerPath
    page: PageForm | None = None


class ChannelsForm(ListForm):
    """The target channels, of which each start and ``check`` see that they are there and named as a probe's."""

    name: AnswerPath


class ListingForm(_Form):
    """What the API lists: ``channels``, and ``publications``, among which leftovers of dead runs are found by the keys
    anywhere in an item; ``id`` is what ``withdraw`` takes."""

    channels: ChannelsForm | None = None
    publications: ListForm | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.channels is None and self.publications is None:
            raise ValueError("describe channels, publications, or both")
        return self


class HttpSettings(AccessSettings):
    """The target's part of the configuration.

    ``values`` are texts of its own, secret ones too, that requests name as ``{values.NAME}``. ``check_text`` says
    that the channels show ``{text}``, so that what a content expects is looked for on arrival.
    """

    adapter: Literal["http"] = "http"
    auth_header: str = "Authorization"
    auth_scheme: str = "Bearer"
    values: dict[str, SecretStr] = Field(default_factory=dict)
    check_text: bool = False
    steps: StepsForm
    errors: ErrorsForm = ErrorsForm()
    status: StatusForm | None = None
    withdraw: WithdrawForm | None = None
    health: HealthForm | None = None
    listing: ListingForm | None = None

    @field_validator("auth_header")
    @classmethod
    def _header(cls, name: str) -> str:
        if not HEADER_NAME.fullmatch(name) or name.lower() in OUR_HEADERS - {"authorization"}:
            raise ValueError(f"{name[:40]!r} cannot carry the token")
        return name

    @field_validator("auth_scheme")
    @classmethod
    def _scheme(cls, scheme: str) -> str:
        if scheme and not HEADER_NAME.fullmatch(scheme):
            raise ValueError(f"{scheme[:40]!r} is no word such as Bearer")
        return scheme

    @field_validator("values")
    @classmethod
    def _value_names(cls, values: dict[str, SecretStr]) -> dict[str, SecretStr]:
        _named(values)
        for name, value in values.items():
            if not value.get_secret_value():
                raise ValueError(f"{name} is empty")
        return values


def known_in(name: str, own: Collection[str]) -> tuple[str, ...]:
    """The placeholders of a request: of a step by its action, of ``status``, ``withdraw``, ``health`` or a list."""
    of_request = {
        StepAction.CREATE: OF_PUBLICATION,
        StepAction.SEND: {**OF_PUBLICATION, **OF_RECIPIENT, **OF_ID},
        StepAction.CANCEL: {**OF_PUBLICATION, **OF_ID},
        "status": OF_ID,
        "withdraw": OF_ID,
    }
    return (*of_request.get(name, {}), *ALWAYS, *(f"{OWN}{each}" for each in own))


@sealed
def read_settings(raw: Mapping[str, Any]) -> HttpSettings:
    """The settings, every template in them checked. Raises ConfigurationError with file, line and field."""
    settings = validate_adapter(HttpSettings, raw)
    located = raw if isinstance(raw, Located) else Located(raw)
    problems = list(_problems(located, settings))
    if problems:
        raise first_of(problems)
    return settings


def _problems(located: Located, settings: HttpSettings) -> Iterator[ConfigurationError]:
    requests: list[Loc] = [("steps", action.value) for action in StepAction]
    requests += [("status",), ("withdraw",), ("health",), ("listing", "channels"), ("listing", "publications")]
    if settings.listing is not None and settings.listing.publications is not None and settings.withdraw is None:
        mend = "describe target.withdraw, too, or leave target.listing.publications out"
        yield located.error("what it lists could not be withdrawn", mend, ("listing", "publications"))
    for place in requests:
        request: Any = located
        for name in place:
            request = request.get(name) if isinstance(request, Mapping) else None
        if not isinstance(request, Mapping):
            continue
        known = known_in(str(place[-1]), settings.values)
        for field in _TEMPLATED:
            for inner, text in texts_in(request.get(field)):
                problem = _problem(text, known)
                if problem is not None:
                    yield located.error(problem.problem, problem.mend, (*place, field, *inner))


def _problem(text: Any, known: Collection[str]) -> TemplateProblem | None:
    if not isinstance(text, str):
        return TemplateProblem("expected text, got fields", 'placeholders stand in values, and in quotes: "{marker}"')
    if has_reference(text):
        mend = "name it under target.values, and write {values.NAME} here"
        return TemplateProblem("a reference would be read as part of the template", mend)
    try:
        parse(text, known)
    except TemplateProblem as problem:
        return problem
    return None
