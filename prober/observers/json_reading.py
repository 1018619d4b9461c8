"""JSON in which strangers had a hand: read whatever its depth and its numbers' length. Pure, linear in its size."""

from __future__ import annotations

import json
import re
from typing import Any, Final

MOST_DEPTH: Final = 64
"""Levels of arrays and objects that are kept where a text has more than the parser can bear."""

_MOST_DIGITS: Final = 40
# The quote at a string's end may be missing: so none is looked for twice.
_TOKEN: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)


def read_json(text: str | bytes) -> Any:
    """The value of a JSON text. An integer that is too long becomes a float, what lies too deep None.

    One message that no parser likes must not hide all those beside it. Raises ValueError for what is no JSON.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    try:
        return _DECODER.decode(text)
    except RecursionError:
        return _DECODER.decode(_cut(text))


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


_DECODER: Final = json.JSONDecoder(parse_int=_integer)


def _cut(text: str) -> str:
    """The text with null in the place of everything that lies deeper than MOST_DEPTH."""
    kept, depth, position = [], 0, 0
    for token in _TOKEN.finditer(text):
        if token[0] in {"[", "{"}:
            depth += 1
            if depth == MOST_DEPTH + 1:
                kept += [text[position : token.start()], "null"]
        elif token[0] in {"]", "}"}:
            if depth == MOST_DEPTH + 1:
                position = token.end()
            depth -= 1
    return "".join(kept) + (text[position:] if depth <= MOST_DEPTH else "")
