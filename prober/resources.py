"""Where the files that are shipped with the prober lie."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def scenarios_directory() -> Path:
    """The shipped scenarios: inside the installed package, else beside it in a checkout."""
    return _shipped("scenarios")


def fixtures_directory() -> Path:
    """What the probes publish and the sandbox plays, found like the scenarios."""
    return _shipped("fixtures")


def contents_directory() -> Path:
    """The shipped contents, one YAML file each."""
    return fixtures_directory() / "content"


def _shipped(name: str) -> Path:
    packaged = _PACKAGE / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name
