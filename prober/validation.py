"""A pydantic model's complaints as errors that name file, line and field, and the nearest right name.

The foreign errors carry the values they were given, so nothing of theirs is passed on that might be a secret.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError, WithJsonSchema
from pydantic_core import ErrorDetails

from prober.durations import parse_duration
from prober.errors import ConfigurationError
from prober.nearest import did_you_mean, nearest
from prober.references import Resolved, has_reference, is_secret_name, resolve
from prober.yaml_source import Loc, Located, describe, sealed

ModelT = TypeVar("ModelT", bound=BaseModel)

_NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_EXPECTED = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
    "frozen_set": "a list",
    "dict": "fields",
    "mapping": "fields",
    "model": "fields",
    "path": "a path",
}
_SUBJECT = re.compile(r"^(Input|String|Tuple|List|Dictionary|Value) should")
_FREE = ("value_error", "assertion_error")
"""Errors whose text the validator itself made up: it may quote what it was given."""


class Form(BaseModel):
    """What a file may hold: exactly the declared fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def check_name(text: str) -> str:
    """``text`` if it is a name. Raises ValueError with the mend."""
    if not 1 <= len(text) <= 40 or not set(text) <= _NAME_LETTERS:
        raise ValueError(f"{text!r} is no name: use a to z, 0 to 9 and '-', 1 to 40 of them")
    return text


_NAME_SCHEMA: dict[str, Any] = {"type": "string", "pattern": "^[a-z0-9-]{1,40}$"}

Name = Annotated[str, AfterValidator(check_name), WithJsonSchema(_NAME_SCHEMA)]
"""A name that is safe as a label, an argument and a file name."""

NAMED: dict[str, Any] = {"propertyNames": _NAME_SCHEMA}
"""What the JSON schema of a mapping by :data:`Name` says besides: its keys are not in the type's own."""

Seconds = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d)\s*$"},
                {"type": "number", "minimum": 0},
            ],
            "description": "A duration such as 200ms, 30s, 5m or 2h; a bare number is seconds.",
        }
    ),
]
"""A duration as people write it, in seconds once read."""


def validate(model: type[ModelT], located: Located, resolved: Resolved | None = None) -> ModelT:
    """The model's view of a mapping; ``resolved`` is the same mapping with its references followed.

    Raises ConfigurationError: the first problem of the document, with the count of the others.
    """
    given = resolved or Resolved(dict(located), frozenset())
    try:
        return model.model_validate(given.fields)
    except ValidationError as error:
        problems = _Translation(model, located, given).problems(error)
    raise first_of(problems)


@sealed
def validate_adapter(
    model: type[ModelT], raw: Mapping[str, Any], where: str = "", *, environ: Mapping[str, str] | None = None
) -> ModelT:
    """An adapter's settings from its part of the configuration, its references followed now.

    ``where`` names the part in errors if ``raw`` does not know its own place; the field ``adapter`` is left out
    unless the model wants it. Raises ConfigurationError with file, line and field, and never with a secret.
    """
    located = raw if isinstance(raw, Located) else Located(raw, prefix=tuple(where.split(".")) if where else ())
    resolved = resolve(located, environ)
    if "adapter" not in model.model_fields:
        resolved.fields.pop("adapter", None)
    return validate(model, located, resolved)


def first_of(problems: Iterable[ConfigurationError]) -> ConfigurationError:
    """The problem that stands first in the file; its mend says how many others there are."""
    ordered = sorted(problems, key=lambda problem: problem.line or 0)
    others = len(ordered) - 1
    if not others:
        return ordered[0]
    count = f"{others} more problem{'s' if others > 1 else ''} in this file"
    return replace(ordered[0], mend=f"{ordered[0].mend}; {count}" if ordered[0].mend else count)


class _Translation:
    def __init__(self, model: type[BaseModel], located: Located, given: Resolved) -> None:
        self._model = model
        self._located = located
        self._given = given

    def problems(self, error: ValidationError) -> list[ConfigurationError]:
        details = error.errors(include_url=False)
        missing = {self._place(detail) for detail in details if detail["type"] == "missing"}
        echoes = {self._place(detail) for detail in details if detail["type"] in ("too_short", "too_long")}
        meant: set[Loc] = set()
        found: dict[Loc, ConfigurationError] = {}
        for detail in sorted(details, key=lambda detail: detail["type"] != "extra_forbidden"):
            loc = self._place(detail)
            if detail["type"] == "extra_forbidden":
                # A misspelt field is one mistake, though the model calls the right name missing, too.
                name = nearest(str(loc[-1]), [str(gap[-1]) for gap in missing if gap[:-1] == loc[:-1]])
                meant |= {(*loc[:-1], name)} if name else set()
            if detail["type"] != "missing" or loc not in meant:
                found.setdefault(loc, self._problem(detail, loc))
        # A list counts only its right items: what it says about its length is the echo of a wrong one.
        return [problem for loc, problem in found.items() if not (loc in echoes and _holds_another(loc, found))]

    def _place(self, detail: ErrorDetails) -> Loc:
        """Where the value lies in the document: the model's way there without the marks of unions and keys."""
        place: list[str | int] = []
        value: Any = self._given.fields
        for part in detail["loc"]:
            listed = isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value)
            if listed or (isinstance(value, Mapping) and part in value):
                value = value[part]
                place.append(part)
        if detail["type"] == "missing":
            place.append(detail["loc"][-1])
        return tuple(place)

    def _problem(self, detail: ErrorDetails, loc: Loc) -> ConfigurationError:
        kind = detail["type"]
        if kind == "missing":
            return self._located.error("this field is missing", "", loc)
        if kind == "extra_forbidden":
            choices = _field_names(self._model, detail["loc"][:-1])
            return self._located.error("unknown field", did_you_mean(str(loc[-1]), choices), loc)
        if kind in ("enum", "literal_error"):
            return self._wrong_choice(detail, loc)
        expected = _EXPECTED.get(kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_float"))
        if expected is not None:
            return self._wrong_type(expected, loc)
        if kind in _FREE and self._tells(detail["msg"], loc):
            return self._located.error("this value is not accepted", "check it; it is not shown, it may be secret", loc)
        return self._located.error(_plain_words(detail["msg"]), "", loc)

    def _wrong_type(self, expected: str, loc: Loc) -> ConfigurationError:
        value = self._value(loc)
        quotable = expected == "text" and isinstance(value, (int, float))
        return self._located.error(
            f"expected {expected}, got {describe(value)}", "put it in quotes" if quotable else "", loc
        )

    def _wrong_choice(self, detail: ErrorDetails, loc: Loc) -> ConfigurationError:
        value, choices = self._value(loc), _choices(detail, self._model)
        if not isinstance(value, (str, int, float)) or self._is_secret(loc):
            return self._located.error(f"expected one of {', '.join(choices)}", "", loc)
        return self._located.error(f"{value!r} is not one of {', '.join(choices)}", _meant(str(value), choices), loc)

    def _value(self, loc: Loc) -> Any:
        value: Any = self._located
        for part in loc:
            value = value[part]
        return value

    def _is_secret(self, loc: Loc) -> bool:
        return has_reference(self._value(loc)) or any(is_secret_name(part) for part in loc)

    def _tells(self, message: str, loc: Loc) -> bool:
        """Whether a text that a validator made up might tell a secret."""
        shown = message.casefold()
        return self._is_secret(loc) or any(
            text.casefold() in shown or repr(text)[1:-1].casefold() in shown
            for text in map(str.strip, self._given.hidden)
            if text
        )


def _holds_another(loc: Loc, found: Iterable[Loc]) -> bool:
    return any(len(other) > len(loc) and other[: len(loc)] == loc for other in found)


def _plain_words(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ").replace(" after validation", "")
    return _SUBJECT.sub("should", text)


def _meant(value: str, choices: list[str]) -> str:
    name = nearest(value, choices)
    return f"did you mean {name!r}?" if name else ""


def _choices(detail: ErrorDetails, model: type[BaseModel]) -> list[str]:
    for annotation in _annotations(model, detail["loc"]):
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            return [str(member.value) for member in annotation]
        if typing.get_origin(annotation) is typing.Literal:
            return [str(choice) for choice in typing.get_args(annotation)]
    return [str(detail.get("ctx", {}).get("expected", "the known words"))]


def _field_names(model: type[BaseModel], loc: Loc) -> list[str]:
    models = [found for found in _annotations(model, loc) if isinstance(found, type) and issubclass(found, BaseModel)]
    return [field.alias or name for found in models for name, field in found.model_fields.items()]


def _annotations(model: type[BaseModel], loc: Loc) -> list[Any]:
    """The types that the model declares for the value at ``loc``; marks of unions in it are passed over."""
    found: list[Any] = [model]
    for part in loc:
        deeper = [inner for outer in found for inner in _inside(outer, part)]
        found = deeper or found
    return found


def _inside(annotation: Any, part: str | int) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {field.alias or name: field for name, field in annotation.model_fields.items()}
        return _plain(fields[str(part)].annotation) if part in fields else []
    inner = typing.get_args(annotation)
    if not inner or typing.get_origin(annotation) is typing.Literal:
        return []
    return _plain(inner[0] if isinstance(part, int) else inner[-1])


def _plain(annotation: Any) -> list[Any]:
    """A type without its annotations; a union's members one by one."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _plain(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [plain for member in typing.get_args(annotation) for plain in _plain(member)]
    return [annotation]
