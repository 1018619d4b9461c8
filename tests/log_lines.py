"""Every log call in the code, from its source: ``python -m tests.log_lines`` prints the table of deploy/logs.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "prober"

LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error",
          "critical": "critical"}  # fmt: skip

FACTS = ("probe", "correlation_id", "trace_id")
"""What every line about a probe carries."""

_EXPANDED = {"facts": (*FACTS, "scenario", "channel", "question", "verdict", "why"), "ids": FACTS}
_BOUND = {
    "A step was accepted.",
    "A step was not accepted.",
    "A step ended in an error of our own.",
    "The target says nothing about a publication.",
    "What the target claims could not be put on record.",
}
"""Lines that are written inside of what binds the three ids."""


@dataclass(frozen=True, order=True)
class LogLine:
    """One call. ``action`` is '' where it has none, or none that is a plain text."""

    action: str
    level: str
    sentence: str
    fields: tuple[str, ...]
    place: str


def log_lines() -> list[LogLine]:
    """All of them, in the order of their actions."""
    return sorted(line for path in sorted(PACKAGE.rglob("*.py")) for line in _in(path))


def _in(path: Path) -> Iterator[LogLine]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        called = node.func if isinstance(node, ast.Call) else None
        logs = isinstance(called, ast.Attribute) and called.attr in LEVELS and _is_logger(called.value)
        if logs and isinstance(node, ast.Call) and isinstance(called, ast.Attribute):
            yield _line(node, called.attr, f"{path.relative_to(PACKAGE)}:{node.lineno}")


def _is_logger(node: ast.expr) -> bool:
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get_logger"
    return called or (isinstance(node, ast.Name) and node.id == "log")


def _line(node: ast.Call, method: str, place: str) -> LogLine:
    said = {word.arg: word.value for word in node.keywords if word.arg is not None}
    expanded = [word.value for word in node.keywords if word.arg is None]
    fields = [name for name in said if name not in {"action", "exc_info"}]
    for value in expanded:
        name = value.id if isinstance(value, ast.Name) else ""
        fields = [*_EXPANDED[name], *fields]
    sentence = _text(node.args[0] if node.args else None)
    bound = FACTS if sentence in _BOUND else ()
    return LogLine(_text(said.get("action")), LEVELS[method], sentence, (*bound, *fields), place)


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def table() -> str:
    """One row for each action, level and sentence."""
    rows = dict.fromkeys((line.action, line.level, line.sentence, line.fields) for line in log_lines())
    told = [
        f"| `{action}` | {level} | {sentence} | {', '.join(f'`{name}`' for name in fields)} |"
        for action, level, sentence, fields in rows
    ]
    return "\n".join(["| action | level | event | besides |", "| --- | --- | --- | --- |", *told]) + "\n"


if __name__ == "__main__":
    print(table(), end="")
