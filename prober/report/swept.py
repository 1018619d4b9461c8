"""What a sweep has done, in a sentence and as values."""

from __future__ import annotations

from collections import Counter
from typing import Any

from prober.clean_up import Removal
from prober.sweep import Swept

_WORDS = {
    Removal.REMOVED: "removed",
    Removal.GONE: "gone already",
    Removal.DENIED: "not ours to remove",
    Removal.TOO_LATE: "published for good",
}


def swept_line(swept: Swept) -> str | None:
    """One sentence, None when there was nothing to do."""
    ends = _by_result(swept)
    parts = [f"{ends[removal]} {words}" for removal, words in _WORDS.items() if ends[removal]]
    if swept.backlog:
        parts.append(f"{swept.backlog} left for later")
    told = [f"Clean-up: {', '.join(parts)}."] if parts else []
    told += [f"Nothing could be removed from {name}: {why}." for name, why in sorted(swept.trouble.items())]
    return " ".join(told) or None


def swept_values(swept: Swept, *, complete: bool, dry_run: bool) -> dict[str, Any]:
    """The same for a program."""
    channels: dict[str, dict[str, int]] = {}
    for (channel, removal), number in sorted(swept.ends.items()):
        channels.setdefault(channel or "publications", {})[removal.value] = number
    return {
        "version": 1,
        "dry_run": dry_run,
        "complete": complete,
        "ended": channels,
        "would_go": dict(sorted(swept.wanted.items())),
        "backlog": swept.backlog,
        "trouble": dict(sorted(swept.trouble.items())),
    }


def _by_result(swept: Swept) -> Counter[Removal]:
    ends: Counter[Removal] = Counter()
    for (_, removal), number in swept.ends.items():
        ends[removal] += number
    return ends
