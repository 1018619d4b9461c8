"""``prober audit``: every request of ours that changed something outside, from the ledger."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from prober.acts import Act
from prober.cli.options import load_for, one_of
from prober.cli.report import instant_option
from prober.clock import rfc3339
from prober.config import default_ledger_path
from prober.errors import ConfigurationError
from prober.ledger.acting import acts_between
from prober.ledger.opening import open_for_reading
from prober.report.lines import printable
from prober.report.values import json_text


def audit_command(since: str, until: str, *, output: str, ledger: str | None, config: str | None) -> None:
    """Write what was asked for in a window to stdout, oldest first. Raises ConfigurationError, LedgerError."""
    one_of("--output", output, ("text", "json"))
    end = instant_option("--until", until, time.time())
    begin = instant_option("--since", since, end)
    if begin >= end:
        raise ConfigurationError("the window ends before it begins", "give an earlier --since", field="--since")
    settings = load_for(config)
    engine = open_for_reading(ledger or (settings.ledger if settings else "") or str(default_ledger_path(os.environ)))
    try:
        with engine.connect() as conn:
            found = acts_between(conn, begin, end)
    finally:
        engine.dispose()
    if output == "json":
        sys.stdout.write(json_text({"version": 1, "acts": [_to_json(act) for act in found]}) + "\n")
        return
    sys.stdout.writelines(f"{_line(act)}\n" for act in found)
    if not found:
        sys.stdout.write("Nothing was asked of anybody in this window.\n")


def _line(act: Act) -> str:
    answer = act.answer or "no answer on record"
    probe = f"probe {act.probe}" if act.probe else ""
    words = (rfc3339(act.began), act.kind, act.place, act.subject, f"-> {answer}", probe, f"by {act.by}")
    return "  ".join(printable(word) for word in words if word)


def _to_json(act: Act) -> dict[str, Any]:
    return {
        "at": rfc3339(act.began),
        "answered_at": None if act.ended is None else rfc3339(act.ended),
        "kind": act.kind,
        "place": act.place,
        "subject": act.subject,
        "probe": act.probe or None,
        "by": act.by,
        "answer": act.answer or None,
    }
