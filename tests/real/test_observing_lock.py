"""The lock of whoever observes: one holder for each location, and none that outlives its process."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from prober.errors import LedgerError
from prober.ledger.lock import ObservingLock

HOLDER = """
import asyncio, sys
from prober.ledger.lock import ObservingLock

async def hold():
    print(await ObservingLock(sys.argv[1], "here").take(), flush=True)
    await asyncio.Event().wait()

asyncio.run(hold())
"""


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.sqlite")


async def test_one_holds_it_for_a_location(place: str) -> None:
    """A second finds it held until it is released; another location is not hindered."""
    first, second, elsewhere = ObservingLock(place, "here"), ObservingLock(place, "here"), ObservingLock(place, "there")
    assert await first.take()
    assert not await second.take()
    assert await elsewhere.take()
    await second.release()  # it holds nothing
    assert not await second.take()
    await first.release()
    assert await second.take()
    await second.release()
    await elsewhere.release()


async def test_the_death_of_its_holder_releases_it(place: str) -> None:
    """kill -9 leaves no lock behind."""
    holder = await asyncio.create_subprocess_exec(sys.executable, "-c", HOLDER, place, stdout=asyncio.subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert await holder.stdout.readline() == b"True\n"
        mine = ObservingLock(place, "here")
        assert not await mine.take()
        holder.send_signal(signal.SIGKILL)
        await holder.wait()
        assert await mine.take()
        await mine.release()
    finally:
        if holder.returncode is None:
            holder.kill()
        await holder.communicate()


async def test_a_folder_that_is_not_there_is_an_error_with_its_mend(tmp_path: Path) -> None:
    """No traceback: the ledger's own error."""
    with pytest.raises(LedgerError, match="gone"):
        await ObservingLock(str(tmp_path / "gone" / "ledger.sqlite"), "here").take()
