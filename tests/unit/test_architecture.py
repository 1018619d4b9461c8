"""The rooms: a file imports only what stands above it, and the pure rooms do no I/O."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "prober"

PURE = [
    "clock", "model", "errors", "interval", "durations", "nearest", "marker", "schedule", "checks", "statistics",
    "bounds", "burn_windows", "objectives",
    "judge", "correlate", "channel_choice", "clean_up", "launching", "grants", "findings", "safety",
    "trace_ids", "__init__",
]  # fmt: skip

ROOMS: list[list[str]] = [
    PURE,
    [
        "resources",
        "yaml_source",
        "references",
        "validation",
        "objective_form",
        "upkeep_form",
        "limits_form",
        "serve_form",
        "traces_form",
        "scenario_files",
        "processes",
        "acts",
        "own_clock",
        "aside",
    ],
    ["targets", "observers"],
    ["ledger"],
    [
        "draft",
        "stages",
        "auditing",
        "sweep",
        "hearing",
        "asking",
        "internal_errors",
        "exporting",
        "telling",
        "sight",
        "controlling",
        "leasing",
        "watching",
        "watches",
        "loops",
        "ad_hoc",
    ],
    ["report", "metrics", "tracing", "otlp"],
    ["gate", "rules"],
    ["config"],
    ["assembly", "examination", "provisioning"],
    ["timetables", "serving", "ticking"],
    ["status"],
    ["sandbox"],
    ["cli", "__main__"],
]
"""From the top down; a room may import itself and everything above, seams (targets, observers) only the nouns."""

SEAMS = {"targets", "observers", "ledger"}


def room_of(module: str) -> str:
    """``prober.ledger.tables`` → ``ledger``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(path: Path) -> set[str]:
    """Every ``prober`` module that a file imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "prober"}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "prober":
            if node.module == "prober":
                found |= {f"prober.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def level(room: str) -> int:
    for index, rooms in enumerate(ROOMS):
        if room in rooms:
            return index
    raise AssertionError(f"{room} has no place in the rooms: give it one")


def room_of_file(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_import_only_what_stands_above_them(path: Path) -> None:
    """No file reaches down, and no seam knows another seam."""
    room = room_of_file(path)
    for module in imports_of(path):
        other = "__init__" if not hasattr(module, "split") else room_of(module)
        if not (PACKAGE / other).exists() and not (PACKAGE / f"{other}.py").exists():
            other = "__init__"  # a name of the package itself, e.g. __version__
        assert level(other) <= level(room), f"{path.name} imports {module}, which stands below it"
        if room in SEAMS and other in SEAMS:
            assert room == other, f"{path.name} imports {module}: seams never know each other"


def test_no_import_cycle() -> None:
    """Modules can be put into an order in which each imports only earlier ones."""
    names = {
        path: ".".join(["prober", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        for path in FILES
    }
    graph = {names[path]: imports_of(path) & set(names.values()) - {names[path]} for path in FILES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import cycle: {' → '.join([*trail, module])}"
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


@pytest.mark.parametrize("path", [path for path in FILES if room_of_file(path) == "report"], ids=lambda path: path.stem)
def test_readers_know_no_target_observer_or_stage(path: Path) -> None:
    """Reports are made of the ledger alone."""
    doers = {"targets", "observers", "stages", "loops", "ad_hoc", "draft", "sight"}
    assert not doers & {room_of(module) for module in imports_of(path)}


OUTSIDE = {
    "asyncio",
    "socket",
    "subprocess",
    "sqlite3",
    "threading",
    "http",
    "urllib.request",
    "aiohttp",
    "httpx",
    "os",
}


@pytest.mark.parametrize("room", [name for name in PURE if name not in {"clock", "__init__"}])
def test_pure_rooms_do_no_input_or_output(room: str) -> None:
    """Decisions are apart from I/O; only the clock touches the machine."""
    tree = ast.parse((PACKAGE / f"{room}.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & OUTSIDE
    assert all(name.split(".")[0] in sys.stdlib_module_names | {"prober", "apscheduler", ""} for name in imported)
