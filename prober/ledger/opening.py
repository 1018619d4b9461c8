"""Opening a ledger: the right file on the right file system, at the right version, with errors that one can act on."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from prober.errors import LedgerBusy, LedgerError, LedgerFull, LedgerOnNetwork, LedgerReadOnly, LedgerTooNew
from prober.ledger.tables import HEAD

BUSY_TIMEOUT = 10.0
"""Seconds to wait for another process's lock."""

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "9p", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.s3fs"}
)
"""File systems whose locks SQLite cannot trust (sqlite.org/howtocorrupt.html section 2)."""


def ledger_url(place: str) -> URL:
    """A path or a database URL as a URL. Raises LedgerError for what is neither."""
    if "://" not in place:
        return URL.create("sqlite", database=str(Path(place).expanduser().absolute()))
    try:
        url = make_url(place)
    except (SQLAlchemyError, ValueError):  # whose words may quote the password
        raise LedgerError("ledger: not a path and not a database URL; write postgresql://USER@HOST/DATABASE") from None
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        raise LedgerError(f"ledger: {url.get_backend_name()!r} is not supported (sqlite or postgresql)")
    return url.set(drivername="postgresql+psycopg") if url.get_backend_name() == "postgresql" else url


def shown(place: str) -> str:
    """The place as it may be told: a path as it is, a URL without a password. Raises LedgerError as ledger_url."""
    if "://" not in place:
        return place
    url = ledger_url(place).difference_update_query(["password", "sslpassword"])
    return url.render_as_string(hide_password=True)


def open_for_writing(place: str) -> Engine:
    """An engine whose transactions take the write lock at once; creates and migrates what is missing."""
    url = ledger_url(place)
    path = ledger_file(url)
    if path is not None:
        _prepare_folder(path)
    engine = _engine(url, writer=True)
    try:
        with engine.connect() as conn:
            version = schema_version(conn)
        if version != HEAD:
            _migrate(engine, version, place)
    except (DBAPIError, OSError) as exc:
        engine.dispose()
        raise ledger_error(exc, place) from exc
    except LedgerError:
        engine.dispose()
        raise
    return engine


def open_for_reading(place: str) -> Engine:
    """An engine that only reads. Never migrates; raises LedgerError when there is nothing, or another version."""
    url = ledger_url(place)
    path = ledger_file(url)
    if path is not None and not path.exists():
        raise LedgerError(f"ledger {place}: no such file (a `prober run --ledger` or `prober serve` makes it)")
    engine = _engine(url, writer=False)
    try:
        with engine.connect() as conn:
            version = schema_version(conn)
    except (DBAPIError, OSError) as exc:
        engine.dispose()
        raise ledger_error(exc, place) from exc
    if version != HEAD:
        engine.dispose()
        refuse_newer(version, place)
        raise outdated(version, place)
    return engine


def schema_version(conn: Connection) -> str | None:
    """The migration that the ledger stands at, None for an empty one."""
    if not inspect(conn).has_table("alembic_version"):
        return None
    return conn.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def ledger_error(exc: BaseException, place: str) -> LedgerError:
    """The one place where a database's error becomes ours, with the mend."""
    cause = getattr(exc, "orig", None) or exc
    where = shown(place)
    words = str(cause).strip().replace(place, where)
    if ledger_file(ledger_url(place)) is None:
        return _postgresql_error(getattr(cause, "sqlstate", None), words, where)
    if "database is locked" in words:
        return LedgerBusy(f"ledger {where}: another process holds its lock for more than {BUSY_TIMEOUT:g} s")
    if "disk is full" in words or "No space left" in words:
        return LedgerFull(f"ledger {where}: no space left on its disk; free some, nothing recorded is lost")
    if any(part in words for part in ("readonly", "unable to open", "Permission denied", "Read-only")):
        return LedgerReadOnly(f"ledger {where}: cannot be written ({words}); mend its permissions or give --ledger")
    if "not a database" in words or "malformed" in words:
        return LedgerError(f"ledger {where}: is not a ledger ({words}); move it away or give another --ledger")
    return LedgerError(f"ledger {where}: {words}")


_MENDS: Mapping[str, tuple[type[LedgerError], str]] = {
    "55P03": (LedgerBusy, "another process holds its lock for more than {busy:g} s"),
    "53100": (LedgerFull, "no space left on the server's disk; free some, nothing recorded is lost"),
    "25006": (LedgerReadOnly, "cannot be written: the server, or this user, is read only; name the primary server"),
    "42501": (LedgerReadOnly, "cannot be written ({words}); grant this user the database's schema and tables"),
    "53300": (LedgerError, "the server takes no more connections (a prober needs two); raise max_connections"),
    "57P01": (LedgerError, "the server ended the connection; it is tried again"),
    "25P03": (LedgerError, "the server ended a transaction that had stood still; it is tried again"),
}
"""PostgreSQL's error codes (its manual, appendix A) that have a mend of ours."""

_CONNECTING: tuple[tuple[str, str], ...] = (
    ("password authentication failed", "the server refuses this user's password; mend it in the URL"),
    ("no password supplied", "the server wants a password; give one in the URL"),
    ("does not exist", "the server does not know this database or user; make it (CREATE DATABASE), or mend the URL"),
    ("no pg_hba.conf entry", "the server lets this user in from elsewhere only; mend its pg_hba.conf"),
    ("Connection refused", "no PostgreSQL listens there; start it, or mend host and port in the URL"),
    ("resolve host", "its host name cannot be resolved; mend the URL or the DNS"),
    ("timeout", "the server does not answer; see that it runs and that no firewall is between"),
    ("closed the connection", "the server ended the connection; it is tried again"),
)
"""What libpq says when it cannot connect, where it passes no code on."""


def _postgresql_error(state: str | None, words: str, where: str) -> LedgerError:
    if state is not None and state in _MENDS:
        kind, mend = _MENDS[state]
        return kind(f"ledger {where}: {mend.format(words=_line(words), busy=BUSY_TIMEOUT)}")
    mend = next((mend for part, mend in _CONNECTING if state is None and part in words), "")
    return LedgerError(f"ledger {where}: {f'{mend} ({_line(words)})' if mend else _line(words)}")


def _line(words: str) -> str:
    """The first line: further ones quote the statement, or say the same of another address."""
    return words.partition("\n")[0][:300]


def ledger_file(url: URL) -> Path | None:
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _prepare_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise LedgerReadOnly(f"ledger {path}: its folder cannot be made: {exc.strerror}") from exc
    kind = file_system(path.parent)
    if kind in NETWORK_FILE_SYSTEMS:
        raise LedgerOnNetwork(
            f"ledger {path}: lies on {kind}, a network file system, where locks cannot be trusted; put it on a local "
            "disk, or use PostgreSQL"
        )


def file_system(path: Path, mounts: str = "/proc/self/mounts") -> str:
    """The type of the file system that holds ``path``, empty where it cannot be told."""
    best, kind = "", ""
    real = os.path.realpath(path)
    try:
        lines = Path(mounts).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, point, fs, *_ = line.split(" ")
        point = point.encode().decode("unicode_escape")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fs
    return kind


def engine_of(url: URL, *, writer: bool) -> Engine:
    """An engine that writes, or one that only reads. Raises ImportError without the database's driver."""
    # An error's words go into logs; what strangers wrote stands in the parameters.
    if url.get_backend_name() == "postgresql":
        return _postgresql_engine(url, writer=writer)
    if not writer:
        url = URL.create("sqlite", database=f"file:{url.database}", query={"mode": "ro", "uri": "true"})
    connecting = {"timeout": BUSY_TIMEOUT, "check_same_thread": False, "cached_statements": 512}
    engine = create_engine(url, poolclass=NullPool, connect_args=connecting, hide_parameters=True)
    event.listen(engine, "connect", _set_up_sqlite_writer if writer else _set_up_sqlite_reader)
    event.listen(engine, "begin", _begin_immediate if writer else _begin_deferred)
    return engine


def _engine(url: URL, *, writer: bool) -> Engine:
    try:
        return engine_of(url, writer=writer)
    except ImportError as exc:
        raise LedgerError(
            f"ledger: the driver of this database is not there ({exc.name}); pip install 'delivery-prober[postgres]'"
        ) from exc


def _postgresql_engine(url: URL, *, writer: bool) -> Engine:
    """The same promises as SQLite's: writers one after another, a reader that sees one state and writes nothing."""
    connecting = {name: value for name, value in _CONNECTION.items() if name not in url.query}
    isolation = "READ COMMITTED" if writer else "REPEATABLE READ"
    engine = create_engine(
        url, pool_pre_ping=True, connect_args=connecting, hide_parameters=True, isolation_level=isolation
    )
    event.listen(engine, "connect", _set_up_postgresql)
    if not writer:
        return engine.execution_options(postgresql_readonly=True)
    event.listen(engine, "begin", _take_write_lock)
    return engine


_CONNECTION: Mapping[str, str | int] = {
    "connect_timeout": 10,
    "application_name": "prober",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds; keep-alives do not watch over what was sent and is not acknowledged
}
"""So that a server that has gone is noticed within half a minute."""

_WRITE_LOCK = 0x70726F626572
"""The advisory lock that a write transaction holds, as SQLite's holds the file's: what one reads it may rely on."""

_STOOD_STILL = 30
"""Seconds after which the server ends a transaction of a prober that was stopped in it, so that others go on."""


def _set_up_postgresql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {round(BUSY_TIMEOUT * 1000)}")
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_STOOD_STILL}s'")
        # A claim must be durable before its request leaves; what waits for replicas as well is left as it is.
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()


def _take_write_lock(conn: Connection) -> None:
    conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")


def _set_up_sqlite_writer(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's BEGIN, not the driver's
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _set_up_sqlite_reader(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA query_only = ON").close()


def _begin_immediate(conn: Connection) -> None:
    conn.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_deferred(conn: Connection) -> None:
    conn.exec_driver_sql("BEGIN")


def outdated(version: str | None, place: str) -> LedgerError:
    """What is said of a ledger that a reader would have to upgrade."""
    return LedgerError(
        f"ledger {shown(place)}: version {version or 'none'} needs an upgrade to {HEAD}; run a command that writes, "
        "e.g. `prober run --ledger`"
    )


def refuse_newer(version: str | None, place: str) -> None:
    """Raises LedgerTooNew for a version that this prober does not know."""
    if version is not None and version > HEAD:
        raise LedgerTooNew(
            f"ledger {shown(place)}: written by a newer prober (version {version}, this one knows {HEAD}); upgrade the "
            "prober, or give another --ledger"
        )


def _migrate(engine: Engine, version: str | None, place: str) -> None:
    refuse_newer(version, place)
    # Loaded late: alembic costs 0.1 s and is needed once in a ledger's life.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, HEAD)
