"""Log lines: a sentence and a stable action each, all of them listed, and three ids on what is about a probe."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import structlog

from prober.telling import about, ids
from tests.log_lines import FACTS, log_lines, table

ROOT = Path(__file__).parents[2]


def test_every_line_is_a_sentence_with_an_action() -> None:
    """No call leaves its action out, or makes it up as it goes."""
    found = log_lines()
    assert len(found) > 30
    for line in found:
        assert re.fullmatch(r"[a-z][a-z_]*", line.action), line
        assert re.fullmatch(r"[A-Z].*\.", line.sentence), line


def test_no_line_names_a_probe_without_the_other_two() -> None:
    """A probe's name, correlation id and trace id come together or not at all."""
    for line in log_lines():
        assert not set(FACTS) & set(line.fields) or set(FACTS) <= set(line.fields), line


def test_the_listed_lines_are_those_of_the_code() -> None:
    """deploy/logs.md holds the table as the code has it (`python -m tests.log_lines` prints it)."""
    assert table() in (ROOT / "deploy/logs.md").read_text(encoding="utf-8")


PROGRAM = """
import logging, structlog
from prober.cli.service_logs import log_to_stderr
from prober.telling import about
log_to_stderr(console=False)
log = structlog.get_logger("prober.test")
with about("here", "k3f7", "ab" * 16):
    log.info("Ours.", action="ours")
    logging.getLogger("somebody.else").warning("Theirs: %s", "\\n<b>\\u202e")
try:
    raise ValueError("inside")
except ValueError:
    log.exception("Bad.", action="bad")
"""


def test_each_line_is_json_with_an_action() -> None:
    """Ours, a library's and one with a traceback: one line each, with the ids of the probe that it is about."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    ours, theirs, bad = [json.loads(line) for line in done.stderr.splitlines()]
    three = {"probe": "k3f7", "correlation_id": "here-k3f7", "trace_id": "ab" * 16}
    assert ours.items() >= {**three, "event": "Ours.", "action": "ours", "level": "info"}.items()
    assert theirs.items() >= {**three, "action": "library", "library": "somebody.else", "level": "warning"}.items()
    assert theirs["event"] == "Theirs: \n<b>\u202e"
    assert (bad["action"], bad["level"], "probe" in bad) == ("bad", "error", False)
    assert "ValueError: inside" in bad["exception"]
    assert all(line["timestamp"].endswith("Z") for line in (ours, theirs, bad))


def test_what_is_about_a_probe_ends_with_it() -> None:
    """The ids are bound inside, and nowhere else."""
    with about("here", "k3f7", "ab" * 16):
        assert structlog.contextvars.get_contextvars() == ids("here", "k3f7", "ab" * 16)
    assert structlog.contextvars.get_contextvars() == {}
