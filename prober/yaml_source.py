"""YAML files as mappings that remember the line of every field, so that each error can name it.

Read as YAML 1.2 reads plain words: ``on``, ``no``, ``1:30`` and dates are text. No tags, no objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import yaml

from prober.errors import ConfigurationError

Loc = tuple[str | int, ...]
"""The way from the top of a document to a value: field names and list positions."""

_P = ParamSpec("_P")
_T = TypeVar("_T")

_MAX_BYTES = 1_000_000
_MAX_DEPTH = 40
_MAX_VALUES = 20_000
_TAG = "tag:yaml.org,2002:"
_QUOTED = re.compile(r"'(?!<)[^']{2,}'|\"[^\"]{2,}\"")
_SYNTAX_MENDS = {
    r"'\t'": "indent with spaces, not with tabs",
    "undefined alias": "put a text that begins with '*' in quotes",
    "mapping values are not allowed": "check the indentation, or put a text that contains ': ' in quotes",
    "cannot start any token": "put the text in quotes",
    "unexpected end of stream": "close the quotation mark",
    "could not find expected ':'": "write 'field: value'",
    "single document": "keep one document in each file",
    "expected ',' or": "close the bracket",
    "expected <block end>": "check the indentation",
}


class Located(Mapping[str, Any]):
    """A mapping that knows its file and the line of each field; its ``repr`` never shows a value.

    ``folder`` is where relative paths in it begin, ``prefix`` its own place in the document.
    """

    __slots__ = ("_fields", "_lines", "folder", "prefix", "source")

    def __init__(
        self,
        fields: Mapping[str, Any],
        source: str = "",
        *,
        lines: Mapping[Loc, int] | None = None,
        prefix: Loc = (),
        folder: Path | None = None,
    ) -> None:
        self._fields = fields
        self._lines = lines or {}
        self.source = source
        self.prefix = prefix
        self.folder = folder or Path()

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"<{field_name(self.prefix) or 'document'} of {self.source}: {', '.join(self._fields)}>"

    def only(self, *names: str) -> Located:
        """The same place with no other fields than these, as far as it has them."""
        fields = {name: value for name, value in self._fields.items() if name in names}
        return Located(fields, self.source, lines=self._lines, prefix=self.prefix, folder=self.folder)

    def changed(self, fields: Mapping[str, Any]) -> Located:
        """The same place with these values for these fields."""
        merged = {**self._fields, **fields}
        return Located(merged, self.source, lines=self._lines, prefix=self.prefix, folder=self.folder)

    def inside(self, *loc: str | int) -> Located:
        """The mapping that lies at ``loc``. Raises KeyError, IndexError or TypeError when there is none."""
        found: Any = self._fields
        for part in loc:
            found = found[part]
        if not isinstance(found, Mapping):
            raise TypeError(f"{field_name(loc)} is no mapping")
        return Located(found, self.source, lines=self._lines, prefix=(*self.prefix, *loc), folder=self.folder)

    def line(self, loc: Loc) -> int | None:
        """The line of the value at ``loc``, else of the nearest value around it; None without a file."""
        whole = (*self.prefix, *loc)
        return next((self._lines[whole[:n]] for n in range(len(whole), -1, -1) if whole[:n] in self._lines), None)

    def error(self, problem: str, mend: str = "", loc: Loc = ()) -> ConfigurationError:
        """What is wrong with the value at ``loc``."""
        return ConfigurationError(problem, mend, self.source, self.line(loc), field_name((*self.prefix, *loc)))


def field_name(loc: Loc) -> str:
    """A place as people write it, e.g. ``channels.email.senders[0]``."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def sealed(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let a ConfigurationError out without the frames and errors behind it: those hold secrets."""

    @wraps(function)
    def outermost(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except ConfigurationError as error:
            found = error
        found.__cause__ = found.__context__ = None
        raise found.with_traceback(None)

    return outermost


@sealed
def read_located(path: Path) -> Located:
    """The mapping in a YAML file. Raises ConfigurationError with the line of whatever is wrong with it."""
    source = str(path)
    return _parse(_text(path, source), source, path.absolute().parent)


@sealed
def parse_located(text: str, source: str, folder: Path | None = None) -> Located:
    """The mapping in a YAML text; ``source`` names it in errors. Raises ConfigurationError."""
    return _parse(text, source, folder or Path())


def _text(path: Path, source: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigurationError("there is no such file", "check the path", source) from error
    except OSError as error:
        problem = (error.strerror or "unknown error").lower()
        raise ConfigurationError(f"cannot be read: {problem}", "check the path and its permissions", source) from error
    if len(raw) > _MAX_BYTES:
        raise ConfigurationError(f"is larger than {_MAX_BYTES:,} bytes", "split it", source)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigurationError("is not UTF-8 text", "save the file as UTF-8", source, line) from error


class _Loader(yaml.SafeLoader):
    """Composes nodes only; resolves no plain word but null, booleans and decimal numbers."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (the library's own class attribute)


# Each pattern is a part of the YAML 1.1 that the library writes, so that what it wrote is read back the same.
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,39})", list("-+0123456789")),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]*(?:[eE][-+][0-9]{1,3})?", list("-+0123456789")),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)


def _parse(text: str, source: str, folder: Path) -> Located:
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigurationError("holds a control character", "remove it", source, line) from error
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, source) from error
    except RecursionError as error:
        raise ConfigurationError("is nested too deeply", "make it flatter", source) from error
    finally:
        if loader is not None:
            loader.dispose()
    if node is None:
        raise ConfigurationError("the file is empty", "write its fields", source, 1)
    reader = _Reader(source)
    value = reader.value(node, (), 0)
    if value is None:
        raise ConfigurationError("the file is empty", "write its fields", source, 1)
    if not isinstance(value, dict):
        raise ConfigurationError(f"expected fields, got {describe(value)}", "write 'field: value'", source, 1)
    return Located(value, source, lines=reader.lines, folder=folder)


def _syntax_error(error: yaml.MarkedYAMLError, source: str) -> ConfigurationError:
    problem = error.problem or error.context or "wrong syntax"
    mark = error.problem_mark or error.context_mark
    mend = next((mend for part, mend in _SYNTAX_MENDS.items() if part in problem), "")
    # The library quotes what it stumbled over, which may be a secret that somebody forgot to put in quotes.
    shown = _QUOTED.sub("'…'", problem)
    return ConfigurationError(f"is no YAML: {shown}", mend, source, mark.line + 1 if mark else None)


class _Reader:
    """Turns nodes into plain values and remembers the line of each."""

    def __init__(self, source: str) -> None:
        self.lines: dict[Loc, int] = {}
        self._source = source
        self._count = 0

    def value(self, node: yaml.Node, loc: Loc, depth: int) -> Any:
        self._count += 1
        if depth > _MAX_DEPTH or self._count > _MAX_VALUES:
            raise self._error(node, loc, "is too large or nested too deeply", "use fewer levels and aliases")
        self.lines.setdefault(loc, _line(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*loc, at), depth + 1) for at, item in enumerate(node.value)]
        return self._scalar(node, loc)

    def _mapping(self, node: yaml.MappingNode, loc: Loc, depth: int) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        first: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key, content in node.value:
            if key.tag == _TAG + "merge":
                merged += content.value if isinstance(content, yaml.SequenceNode) else [content]
                continue
            name = self._name(key, loc)
            if name in first:
                problem = f"stands here twice, first on line {first[name]}"
                raise self._error(key, (*loc, name), problem, "remove one of the two")
            first[name] = _line(key)
            self.lines.setdefault((*loc, name), _line(key))
            fields[name] = self.value(content, (*loc, name), depth + 1)
        for source in merged:
            inherited = self.value(source, loc, depth + 1)
            if not isinstance(inherited, dict):
                raise self._error(source, loc, "'<<' takes fields from a mapping", "let its alias name a mapping")
            fields = {**inherited, **fields}
        return fields

    def _name(self, key: yaml.Node, loc: Loc) -> str:
        if not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
            raise self._error(key, loc, "a field's name must be text", "put it in quotes")
        return str(key.value)

    def _scalar(self, node: yaml.Node, loc: Loc) -> Any:
        kind, text = node.tag.removeprefix(_TAG), str(node.value)
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if kind == "str":
            return text
        try:
            return {"int": int, "float": float}[kind](text)
        except (KeyError, ValueError) as error:
            raise self._error(node, loc, "has a tag that is not understood", "remove the '!…'") from error

    def _error(self, node: yaml.Node, loc: Loc, problem: str, mend: str) -> ConfigurationError:
        return ConfigurationError(problem, mend, self._source, _line(node), field_name(loc))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def describe(value: object) -> str:
    """What sort of value this is, in words, without showing it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    for kind, words in ((str, "text"), (int, "a whole number"), (float, "a number"), (Mapping, "fields")):
        if isinstance(value, kind):
            return words
    return "a list" if isinstance(value, (list, tuple)) else "something else"
