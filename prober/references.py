"""Secrets by reference: ``${env:NAME}`` and ``${file:path}`` in the texts of a configuration.

``$${`` stands for a plain ``${``. Nothing here shows what a reference stands for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prober.nearest import did_you_mean
from prober.yaml_source import Loc, Located

_MAX_BYTES = 65_536
_REFERENCE = re.compile(r"\$\$\{|\$\{(?:(?P<source>[a-z]+):(?P<name>[^{}]*)\}|(?P<bare>))")
_SECRET_NAME = re.compile(r"(?i)(secret|token|password|passphrase|credential|api_?key|private_?key)")
_PLACE_NAME = re.compile(r"(?i)(^|_)(file|url|path)$")


def has_reference(value: object) -> bool:
    """Whether a text refers to something that it does not say itself."""
    return isinstance(value, str) and "${" in value


def is_secret_name(name: object) -> bool:
    """Whether a field of this name holds a secret rather than, say, the path of one."""
    return isinstance(name, str) and bool(_SECRET_NAME.search(name)) and not _PLACE_NAME.search(name)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A mapping whose references were followed, and every text in it that must not be shown."""

    fields: dict[str, Any] = field(repr=False)
    hidden: frozenset[str] = field(repr=False)


def resolve(
    located: Located, environ: Mapping[str, str] | None = None, *, keep: frozenset[str] = frozenset()
) -> Resolved:
    """Follow every reference, but for those below the top-level fields in ``keep``.

    In a field whose name ends with ``file`` a whole ``${file:path}`` stays a path. Raises ConfigurationError that
    names the variable or file that is missing or empty.
    """
    resolver = _Resolver(located, os.environ if environ is None else environ)
    fields = {name: value if name in keep else resolver.value(value, (name,)) for name, value in located.items()}
    return Resolved(fields, frozenset(resolver.hidden))


class _Resolver:
    def __init__(self, located: Located, environ: Mapping[str, str]) -> None:
        self.hidden: set[str] = set()
        self._located = located
        self._environ = environ

    def value(self, value: Any, loc: Loc) -> Any:
        if isinstance(value, Mapping):
            return {name: self.value(inner, (*loc, name)) for name, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(inner, (*loc, at)) for at, inner in enumerate(value)]
        if not isinstance(value, str):
            return value
        text = self._text(value, loc)
        if has_reference(value) or any(is_secret_name(part) for part in loc):
            self.hidden.add(text)
        return text

    def _text(self, text: str, loc: Loc) -> str:
        parts: list[str] = []
        end = 0
        for match in _REFERENCE.finditer(text):
            parts += [text[end : match.start()], self._followed(match, text, loc)]
            end = match.end()
        return "".join([*parts, text[end:]])

    def _followed(self, match: re.Match[str], text: str, loc: Loc) -> str:
        if match[0] == "$${":
            return "${"
        source, name = match["source"], (match["name"] or "").strip()
        if source is None:
            mend = "write ${env:NAME} or ${file:path}; $${ stands for a plain ${"
            raise self._located.error("holds a reference without a source", mend, loc)
        if source not in ("env", "file"):
            raise self._located.error(
                f"no reference begins with '{source}:'", did_you_mean(source, ("env", "file")), loc
            )
        if not name:
            raise self._located.error(f"${{{source}:}} names nothing", f"write ${{{source}:…}}", loc)
        if source == "file" and match[0] == text.strip() and str(loc[-1]).endswith("file"):
            return str(self._path(name))
        found = self._variable(name, loc) if source == "env" else self._file(name, loc)
        self.hidden.add(found)
        return found

    def _variable(self, name: str, loc: Loc) -> str:
        found = self._environ.get(name)
        if not found:
            state = "not set" if found is None else "empty"
            raise self._located.error(f"the environment variable {name} is {state}", f"set {name}", loc)
        return found

    def _path(self, name: str) -> Path:
        return self._located.folder / Path(name).expanduser()

    def _file(self, name: str, loc: Loc) -> str:
        path = self._path(name)
        try:
            with path.open("rb") as file:
                raw = file.read(_MAX_BYTES + 1)
        except OSError as error:
            problem = f"the file {path} cannot be read: {(error.strerror or 'unknown error').lower()}"
            raise self._located.error(problem, "check the path and its permissions", loc) from error
        try:
            text = raw.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise self._located.error(f"the file {path} is not UTF-8 text", "write the secret as text", loc) from error
        if not text or len(raw) > _MAX_BYTES:
            state = "larger than 64 KiB" if text else "empty"
            raise self._located.error(f"the file {path} is {state}", "write the secret into it", loc)
        return text
