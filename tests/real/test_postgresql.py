"""The ledger on Debian's PostgreSQL: what SQLite promises holds there too, and errors name the mend."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from sqlalchemy import Connection, select, text

from prober.errors import LedgerBusy, LedgerError, LedgerFull, LedgerReadOnly, LedgerTooNew
from prober.ledger import opening
from prober.ledger.dialect import insert, writes
from prober.ledger.examination import examine_ledger
from prober.ledger.ledger import Ledger
from prober.ledger.tables import HEAD, totals
from prober.ledger.totals import Rise, raise_totals
from tests.servers.postgresql import PASSWORD, USER, Postgresql
from tests.servers.programs import HOST, free_port


def count(conn: Connection) -> None:
    """Raise one counter by one."""
    rise = Rise()
    rise.count("seen_total", {"channel": "email"})
    raise_totals(conn, "here", 7200.0, rise)


def value(conn: Connection) -> float:
    """The counter's value, 0 when it was never raised."""
    return conn.execute(select(totals.c.value)).scalar() or 0.0


def test_many_starts_at_once_migrate_once(postgresql_server: Postgresql) -> None:
    """Whoever finds an empty database makes the tables, and the others wait for that."""
    place = postgresql_server.database(empty=True)
    with ThreadPoolExecutor(4) as pool:
        engines = list(pool.map(opening.open_for_writing, [place] * 4))
    with engines[0].connect() as conn:
        assert opening.schema_version(conn) == HEAD
    for engine in engines:
        engine.dispose()


async def test_writers_come_one_after_another(postgresql_server: Postgresql) -> None:
    """What one transaction reads no other has changed by the time it writes: no raise is lost."""
    place = postgresql_server.database()

    def read_then_write(conn: Connection) -> None:
        conn.execute(totals.update().values(value=value(conn) + 1))

    async with Ledger(place) as one, Ledger(place) as another:
        await one.write(count)
        for _ in range(50):
            await asyncio.gather(one.write(read_then_write), another.write(read_then_write))
        assert await one.read(value) == 101


async def test_a_reader_sees_one_state(postgresql_server: Postgresql) -> None:
    """What is committed while a reader looks is not half of what it sees."""
    place = postgresql_server.database()
    began, written = threading.Event(), threading.Event()

    def look_twice(conn: Connection) -> tuple[float, float]:
        before = value(conn)
        began.set()
        assert written.wait(30)
        return before, value(conn)

    async with Ledger(place) as one, Ledger(place) as another:
        looking = asyncio.create_task(one.read(look_twice))
        assert await asyncio.to_thread(began.wait, 30)
        await another.write(count)
        written.set()
        assert await looking == (0.0, 0.0)
        assert await one.read(value) == 1.0


async def test_a_reader_writes_nothing(postgresql_server: Postgresql) -> None:
    """A read transaction that tries is refused."""
    async with Ledger(postgresql_server.database()) as ledger:
        with pytest.raises(LedgerReadOnly):
            await ledger.read(count)


async def test_claims_are_durable_whatever_the_server_is_set_to(postgresql_server: Postgresql) -> None:
    """A commit returns when it is on disk, though this server is set up not to wait for that."""
    async with Ledger(postgresql_server.database()) as ledger:
        shown = await ledger.write(lambda conn: conn.execute(text("SHOW synchronous_commit")).scalar_one())
        assert shown == "on"


async def test_a_lost_connection_is_made_anew(postgresql_server: Postgresql) -> None:
    """A server that restarts costs one write and one read, said by name; the next ones work."""
    place = postgresql_server.database()
    name = place.rpartition("/")[2]
    async with Ledger(place) as ledger:
        await ledger.write(count)
        assert await ledger.read(value) == 1
        postgresql_server.administer(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", name
        )
        with pytest.raises(LedgerError, match=r"server ended the connection; it is tried again"):
            await ledger.write(count)
        with pytest.raises(LedgerError, match=r"server ended the connection; it is tried again"):
            await ledger.read(value)
        await ledger.write(count)
        assert await ledger.read(value) == 2


async def test_a_held_lock_is_busy_and_nothing_is_lost(
    postgresql_server: Postgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another process writes for too long a write fails by name; afterwards it works again."""
    place = postgresql_server.database()
    with psycopg.connect(place) as other:
        async with Ledger(place) as ledger:
            await ledger.write(count)
            await ledger.write(lambda conn: conn.exec_driver_sql("SET lock_timeout = 50") and None)
            other.execute("SELECT pg_advisory_xact_lock(%s)", (opening._WRITE_LOCK,))
            with pytest.raises(LedgerBusy, match="another process holds its lock"):
                await ledger.write(count)
            other.rollback()
            await ledger.write(count)
            assert await ledger.read(value) == 2


async def test_what_strangers_wrote_is_taken(postgresql_server: Postgresql) -> None:
    """NUL and halves of characters fail no transaction."""
    async with Ledger(postgresql_server.database()) as ledger:
        await ledger.write(
            lambda conn: (
                conn.execute(totals.insert().values(location="a\0b", name="\ud800", labels="{}", value=1)) and None
            )
        )
        assert await ledger.read(lambda conn: conn.execute(select(totals.c.location, totals.c.name)).one()) == (
            "a?b",
            "?",
        )


def wrong_password(server: Postgresql) -> str:
    return server.url("postgres", password="canary-wrong")


def nobody_listens(_server: Postgresql) -> str:
    return f"postgresql://{USER}:{PASSWORD}@{HOST}:{free_port()}/ledger"


def no_such_database(server: Postgresql) -> str:
    return server.url("nowhere")


def no_password(server: Postgresql) -> str:
    return f"postgresql://{USER}@{HOST}:{server.port}/postgres"


def password_in_the_query(server: Postgresql) -> str:
    return f"postgresql://{USER}@{HOST}:{server.port}/nowhere?password={PASSWORD}"


def read_only(server: Postgresql) -> str:
    place = server.database(empty=True)
    server.administer(f"ALTER DATABASE {place.rpartition('/')[2]} SET default_transaction_read_only = on")
    return place


def too_new(server: Postgresql) -> str:
    place = server.database()
    with psycopg.connect(place) as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
    return place


def no_rights(server: Postgresql) -> str:
    place = server.database(empty=True)
    server.administer("DROP ROLE IF EXISTS stranger")
    server.administer(f"CREATE ROLE stranger LOGIN PASSWORD '{PASSWORD}'")
    return server.url(place.rpartition("/")[2], user="stranger")


@pytest.mark.parametrize(
    ("place_of", "kind", "words"),
    [
        (wrong_password, LedgerError, "mend it in the URL"),
        (no_password, LedgerError, "give one in the URL"),
        (nobody_listens, LedgerError, "no PostgreSQL listens there"),
        (no_such_database, LedgerError, "CREATE DATABASE"),
        (password_in_the_query, LedgerError, "CREATE DATABASE"),
        (read_only, LedgerReadOnly, "name the primary server"),
        (no_rights, LedgerReadOnly, "grant this user"),
        (too_new, LedgerTooNew, "upgrade the prober"),
    ],
)
def test_errors_name_the_mend_and_no_password(
    postgresql_server: Postgresql, place_of: Callable[[Postgresql], str], kind: type[LedgerError], words: str
) -> None:
    """What keeps a ledger from being opened is said with what to do about it, in one line."""
    place = place_of(postgresql_server)
    with pytest.raises(kind, match=words) as caught:
        opening.open_for_writing(place)
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)
    told = " ".join(f"{finding.sentence} {finding.mend}" for finding in examine_ledger(place))
    assert "canary" not in told


def test_check_finds_a_good_and_a_read_only_database(postgresql_server: Postgresql) -> None:
    """Whether it can be written is told without writing."""
    good = [finding.sentence for finding in examine_ledger(postgresql_server.database())]
    assert good[0].endswith("writable")
    assert good[1] == HEAD
    assert "read only" in examine_ledger(read_only(postgresql_server))[0].sentence


async def test_a_full_disk_is_said_by_name(postgresql_server: Postgresql) -> None:
    """The server's own word for it becomes ours, the transaction is undone, and with room again it works."""
    async with Ledger(postgresql_server.database()) as ledger:

        def fill(conn: Connection) -> None:
            count(conn)
            conn.exec_driver_sql("DO $$BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END$$")

        with pytest.raises(LedgerFull, match="no space left on the server's disk"):
            await ledger.write(fill)
        await ledger.write(count)
        assert await ledger.read(value) == 1


async def test_an_error_of_ours_shows_no_password(postgresql_server: Postgresql) -> None:
    """Nor does the error of a place that is no URL."""

    def nonsense(phase: str, _names: tuple[str, ...]) -> None:
        if phase == "before":
            raise RuntimeError("boom")

    async with Ledger(postgresql_server.database(), nonsense) as ledger:
        with pytest.raises(LedgerError, match="boom") as caught:
            await ledger.write(count)
    assert PASSWORD not in str(caught.value)
    for place in (f"postgresql://me:{PASSWORD}@host:port/x", f"nonsense://:{PASSWORD}"):
        with pytest.raises(LedgerError) as caught:
            opening.ledger_url(place)
        assert PASSWORD not in str(caught.value)


async def test_a_row_that_is_there_already_is_told(postgresql_server: Postgresql) -> None:
    """An insert that a constraint stopped says so: what two replicas plan at once is planned by one of them."""
    row = {"location": "here", "name": "seen_total", "labels": "{}", "value": 1.0}
    fresh = insert("postgresql", totals).on_conflict_do_nothing()
    async with Ledger(postgresql_server.database()) as ledger:
        assert await ledger.write(writes, fresh, row)
        assert not await ledger.write(writes, fresh, row)
