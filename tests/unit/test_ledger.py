"""The ledger: durable, migrated by writers only, with errors that one can act on."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, select, text

import prober.ledger.audit_tables
import prober.ledger.clean_up_table
import prober.ledger.dependencies
import prober.ledger.leases  # noqa: F401 - the same
from prober.errors import LedgerBusy, LedgerError, LedgerFull, LedgerOnNetwork, LedgerReadOnly, LedgerTooNew
from prober.ledger import opening
from prober.ledger.ledger import Ledger
from prober.ledger.tables import HEAD, metadata, totals
from prober.ledger.totals import Rise, raise_totals


def count(conn: Connection, name: str = "seen_total") -> None:
    """Raise one counter by one."""
    rise = Rise()
    rise.count(name, {"channel": "email"})
    raise_totals(conn, "here", 7200.0, rise)


def value(conn: Connection, name: str = "seen_total") -> float:
    """The counter's value, 0 when it was never raised."""
    return conn.execute(select(totals.c.value).where(totals.c.name == name)).scalar() or 0.0


def fail(conn: Connection) -> None:
    """Write something, then fail."""
    count(conn)
    raise ValueError("on purpose")


async def test_writes_are_durable_when_they_return(tmp_path: Path) -> None:
    """What a write returned can be read by another connection at once."""
    path = tmp_path / "ledger.sqlite"
    async with Ledger(str(path)) as ledger:
        await ledger.write(count)
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT value FROM totals").fetchall() == [(1.0,)]
            assert other.execute("SELECT hour, value FROM totals_hourly").fetchall() == [(2, 1.0)]
            assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_failed_write_takes_nothing_else_with_it(ledger: Ledger) -> None:
    """Of the writes in one batch the one that raises leaves nothing, and the others stay."""
    done = await asyncio.gather(
        *[ledger.write(count if number % 2 else fail) for number in range(20)], return_exceptions=True
    )
    assert sum(isinstance(result, ValueError) for result in done) == 10
    assert await ledger.read(value) == 10


async def test_ready_writes_go_in_one_batch(tmp_path: Path) -> None:
    """What is ready when the writer comes round shares one commit."""
    batches: list[tuple[str, ...]] = []

    def note(phase: str, names: tuple[str, ...]) -> None:
        if phase == "after":
            batches.append(names)

    async with Ledger(str(tmp_path / "ledger.sqlite"), note) as ledger:
        await asyncio.gather(*[ledger.write(count) for _ in range(50)])
        assert await ledger.read(value) == 50
    assert sum(len(names) for names in batches) == 50
    assert len(batches) < 50


async def test_migrations_make_exactly_the_tables(ledger: Ledger) -> None:
    """The migrated schema is the one that the code describes."""

    def differences(conn: Connection) -> list[object]:
        from alembic.autogenerate import compare_metadata
        from alembic.migration import MigrationContext

        return list(compare_metadata(MigrationContext.configure(conn), metadata))

    assert await ledger.read(differences) == []
    assert await ledger.read(lambda conn: inspect(conn).has_table("deliveries"))


async def test_readers_never_migrate(tmp_path: Path) -> None:
    """Opening for reading makes no file, and does not touch one of another version."""
    path = tmp_path / "none.sqlite"
    with pytest.raises(LedgerError, match="no such file"):
        opening.open_for_reading(str(path))
    assert not path.exists()
    sqlite3.connect(path).close()
    path.write_bytes(b"")
    with pytest.raises(LedgerError, match="needs an upgrade"):
        opening.open_for_reading(str(path))


async def test_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """A newer ledger is refused by name and stays as it is."""
    path = tmp_path / "ledger.sqlite"
    async with Ledger(str(path)) as ledger:
        await ledger.write(lambda conn: conn.execute(text("UPDATE alembic_version SET version_num = '9999'")) and None)
    for opener in (opening.open_for_writing, opening.open_for_reading):
        with pytest.raises(LedgerTooNew, match=f"9999, this one knows {HEAD}"):
            opener(str(path))


async def test_file_that_is_no_ledger(tmp_path: Path) -> None:
    """Another file is named, not overwritten."""
    path = tmp_path / "ledger.sqlite"
    path.write_text("a shopping list, long enough to be read as a header\n" * 40, encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="is not a ledger"):
        opening.open_for_writing(str(path))
    assert path.read_bytes() == before


@pytest.mark.parametrize("place", ["/proc/ledger.sqlite", "/proc/none/ledger.sqlite"])
def test_place_that_cannot_be_written(place: str) -> None:
    """A folder that takes no file is said so, with the mend."""
    with pytest.raises(LedgerReadOnly, match=r"/proc/.*(give --ledger|cannot be made)"):
        opening.open_for_writing(place)


async def test_read_only_ledger(ledger: Ledger) -> None:
    """Once the database cannot be written a write fails by name, and what is in it stays readable."""

    def read_only(conn: Connection) -> None:
        conn.exec_driver_sql("PRAGMA query_only = ON")

    await ledger.write(count)
    await ledger.write(read_only)
    with pytest.raises(LedgerReadOnly, match="cannot be written"):
        await ledger.write(count)
    assert await ledger.read(value) == 1


async def test_locked_ledger_is_busy_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process holds the lock writes fail by name; afterwards they work again."""
    monkeypatch.setattr(opening, "BUSY_TIMEOUT", 0.05)
    path = tmp_path / "ledger.sqlite"
    async with Ledger(str(path)) as ledger:
        await ledger.write(count)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerBusy, match="another process"):
                await ledger.write(count)
            other.execute("ROLLBACK")
        await ledger.write(count)
        assert await ledger.read(value) == 2


async def test_full_disk_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    """When no page can be added the write fails by name; with room again it works, and nothing is missing."""
    path = tmp_path / "ledger.sqlite"
    async with Ledger(str(path)) as ledger:
        await ledger.write(count)

        def bound(conn: Connection, pages: int) -> None:
            conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        def grow(conn: Connection) -> None:
            count(conn)
            for number in range(2000):
                conn.execute(totals.insert().values(location="x", name=str(number), labels="y" * 200, value=1))

        await ledger.write(bound, 1)  # SQLite takes the present size where that is more
        with pytest.raises(LedgerFull, match="no space left"):
            await ledger.write(grow)
        await ledger.write(bound, 1_000_000)
        await ledger.write(grow)
        assert await ledger.read(value) == 2


def test_network_file_systems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system is looked up by the longest mount point that holds the ledger."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nsrv:/x {tmp_path} nfs4 rw 0 0\n", encoding="utf-8")
    assert opening.file_system(tmp_path / "deep", str(mounts)) == "nfs4"
    assert opening.file_system(Path("/usr"), str(mounts)) == "ext4"
    monkeypatch.setattr(opening, "NETWORK_FILE_SYSTEMS", {opening.file_system(tmp_path)})
    with pytest.raises(LedgerOnNetwork, match="network file system"):
        opening.open_for_writing(str(tmp_path / "ledger.sqlite"))


@pytest.mark.parametrize("place", ["mysql://x/y", "nonsense://"])
def test_databases_that_are_not_supported(place: str) -> None:
    """Other databases are refused by name."""
    with pytest.raises(LedgerError, match=r"not supported|not a path"):
        opening.ledger_url(place)


def test_passwords_never_stand_in_errors() -> None:
    """A database URL's password is masked."""
    error = opening.ledger_error(OSError("boom"), "postgresql://me:s3cret-canary@127.0.0.1/db")
    assert "s3cret-canary" not in str(error)
