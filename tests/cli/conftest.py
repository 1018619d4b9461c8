"""What the tests of the command line share: one world in fair weather, and a console of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from prober.sandbox.launch import SandboxProcess, start_sandbox
from tests.cli.console import Console


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world() -> AsyncIterator[SandboxProcess]:
    """A sandbox over the real protocols; its weather is fair and nobody changes it."""
    async with start_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def console(tmp_path: Path) -> Console:
    """A folder of one's own, and an empty home beside it."""
    console = Console(tmp_path / "work")
    console.folder.mkdir()
    console.home.mkdir()
    return console
