"""``prober report``: what is on record about a window, for people and for programs."""

from __future__ import annotations

import os
import shutil
import sys
import time
from datetime import UTC, datetime

from prober.cli.live import is_screen
from prober.cli.options import load_for, one_of, target_name
from prober.config import default_ledger_path
from prober.durations import parse_duration
from prober.errors import ConfigurationError
from prober.ledger.opening import open_for_reading
from prober.ledger.windows import Window
from prober.objectives import DEFAULT_OBJECTIVES
from prober.report.gathering import overview
from prober.report.lines import write
from prober.report.overview import Overview
from prober.report.values import json_text

OUTPUTS = ("text", "json", "markdown", "html")


def report_command(
    since: str,
    until: str,
    *,
    scenario: str | None,
    channel: str | None,
    location: str | None,
    output: str,
    ledger: str | None,
    config: str | None,
) -> None:
    """Write the report to stdout. Raises ConfigurationError, LedgerError."""
    one_of("--output", output, OUTPUTS)
    now = time.time()
    end = instant_option("--until", until, now)
    window = Window(instant_option("--since", since, end), end, scenario or "", channel or "", location or "")
    if window.since >= window.until:
        raise ConfigurationError("the window ends before it begins", "give an earlier --since", field="--since")
    settings = load_for(config)
    place = ledger or (settings.ledger if settings else "") or str(default_ledger_path(os.environ))
    objectives = settings.objectives if settings is not None else DEFAULT_OBJECTIVES
    engine = open_for_reading(place)
    try:
        with engine.connect() as conn:
            found = overview(conn, window, objectives, target_name(settings), now)
    finally:
        engine.dispose()
    _write(found, output)


def instant_option(option: str, text: str, end: float) -> float:
    """Wall seconds of ``now``, of a duration before ``end``, or of a date and time (UTC without a zone).

    Raises ConfigurationError that names the option.
    """
    if text == "now":
        return end
    try:
        return end - parse_duration(text)
    except ValueError:
        pass  # no duration: a date then, or what is told below
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        mend = "write a duration such as 30d or 6h, or a date such as 2026-11-01 or 2026-11-01T08:00Z"
        raise ConfigurationError(f"{text!r} is no time", mend, field=option) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _write(found: Overview, output: str) -> None:
    if output == "json":
        from prober.report.overview_json import overview_to_json

        sys.stdout.write(json_text(overview_to_json(found)) + "\n")
    elif output == "markdown":
        from prober.report.overview_markdown import overview_markdown

        sys.stdout.write(overview_markdown(found))
    elif output == "html":
        from prober.report.page import overview_page

        # Bytes: a page says in itself that it is UTF-8, whatever the console's encoding.
        sys.stdout.buffer.write(overview_page(found).encode())
    else:
        from prober.report.overview_text import render_overview

        write(render_overview(found, shutil.get_terminal_size().columns), sys.stdout, colour=is_screen(sys.stdout))
