"""Content checks on arrival: what a person must be able to read in a message. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prober.marker import MAX_SCANNED, unescaped, without_invisible
from prober.model import Check

_QUOTED = 80
"""Characters of a check that its sentence repeats."""


def failed(checks: Sequence[Check], texts: Sequence[str]) -> tuple[str, ...]:
    """One stable, short sentence per check that failed, in the order of the checks; empty when all is well.

    A check's text must stand in one of ``texts``. Case counts; white space (also no-break), invisible characters and
    HTML character references do not. Of the texts the first 2 MB in total are looked at.
    """
    readable = [reading for text in _bounded(texts) for reading in _readings(text)]
    return tuple(_missing(check) for check in checks if not _present(check, readable))


def _bounded(texts: Sequence[str]) -> Iterator[str]:
    left = MAX_SCANNED
    for text in texts:
        if left <= 0:
            return
        yield text[:left]
        left -= len(text)


def _readings(text: str) -> tuple[str, ...]:
    """The text as it stands, and as a browser would show it, where this differs."""
    return tuple(dict.fromkeys((_normal(text), _normal(unescaped(text)))))


def _normal(text: str) -> str:
    return " ".join(without_invisible(text).split())


def _present(check: Check, readable: Sequence[str]) -> bool:
    return any(wanted in reading for wanted in _readings(check.text) for reading in readable)


def _missing(check: Check) -> str:
    text = _normal(check.text)
    return f"text missing: '{text if len(text) <= _QUOTED else text[: _QUOTED - 1] + '…'}'"
