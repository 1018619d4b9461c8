"""What every test shares."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from prober.ledger.ledger import Ledger


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    """An empty ledger of its own."""
    async with Ledger(str(tmp_path / "ledger.sqlite")) as opened:
        yield opened
