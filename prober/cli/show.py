"""``prober show``: the evidence about one probe as a timeline."""

from __future__ import annotations

import os
import shutil
import sys

from prober.cli.live import is_screen
from prober.cli.options import load_for, one_of, target_name
from prober.config import default_ledger_path
from prober.errors import ConfigurationError
from prober.ledger import reading
from prober.ledger.opening import open_for_reading, shown
from prober.report.evidence import timeline
from prober.report.lines import write
from prober.report.provider_share import provider_facts
from prober.report.timeline import render_timeline, timeline_to_json
from prober.report.values import json_text


def show_command(probe: str, output: str, ledger: str | None, config: str | None) -> None:
    """Write the timeline to stdout. Raises ConfigurationError for an unknown probe, LedgerError."""
    one_of("--output", output, ("text", "json"))
    settings = load_for(config)
    place = ledger or (settings.ledger if settings else "") or str(default_ledger_path(os.environ))
    engine = open_for_reading(place)
    try:
        with engine.connect() as conn:
            names = reading.find_probes(conn, probe.lower())
            if len(names) != 1 and probe not in names:
                raise ConfigurationError(*_which(probe, names, place), field="PROBE")
            record = reading.probe_records(conn, [probe if probe in names else names[0]])[0]
            found = timeline(
                record,
                reading.coverage_rows(conn, record.probe.location),
                reading.observer_rows(conn, record.probe.location),
                provider_facts(conn, record),
            )
    finally:
        engine.dispose()
    target = target_name(settings)
    if output == "json":
        sys.stdout.write(json_text(timeline_to_json(found, target)) + "\n")
    else:
        lines = render_timeline(found, shutil.get_terminal_size().columns, target)
        write(lines, sys.stdout, colour=is_screen(sys.stdout))


def _which(probe: str, names: tuple[str, ...], place: str) -> tuple[str, str]:
    if not names:
        return f"no probe on record begins with {probe!r}", f"looked in {shown(place)}; give --ledger for another"
    return f"more than one probe's name begins with {probe!r}", f"it may be {', '.join(names)}"
