"""Which right name a wrong one was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 12


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like ``word``, None when none is like it."""
    folded = {choice.casefold(): choice for choice in reversed(list(choices))}
    found = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The mend for a wrong name: the nearest right one, else those that there are; empty without any."""
    known = list(dict.fromkeys(choices))
    found = nearest(word, known)
    if found is not None:
        return f"did you mean {found!r}?"
    if not known:
        return ""
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return f"known: {', '.join(known[:_LISTED])}{more}"
