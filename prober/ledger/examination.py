"""What ``check`` finds about the ledger: its place, whether it can be written, its version. Writes nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from prober.errors import LedgerError
from prober.findings import Finding, ok, unknown, warning, wrong
from prober.ledger.opening import (
    NETWORK_FILE_SYSTEMS,
    engine_of,
    file_system,
    ledger_error,
    ledger_file,
    ledger_url,
    schema_version,
    shown,
)
from prober.ledger.tables import HEAD, keys
from prober.marker import VERSION, minted_at

_LITTLE = 200 * 1024 * 1024
"""Bytes of free space below which it is said."""

_READ_ONLY = text("SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'")

_PLACE = "give another place: ledger in the configuration, or --ledger"


def examine_ledger(place: str) -> tuple[Finding, ...]:
    """Place, file system, permissions, version. Blocks; raises nothing but what is no error of a ledger."""
    try:
        path = ledger_file(ledger_url(place))
        return _database(place) if path is None else _file(path, place)
    except LedgerError as error:
        return (wrong("place", str(error), _PLACE),)
    except ImportError as error:
        sentence = f"the driver of this database is not there: {error.name}"
        return (wrong("place", sentence, "pip install 'delivery-prober[postgres]'"),)


def first_uses(place: str, key_ids: tuple[str, ...]) -> dict[str, float]:
    """Wall seconds of the oldest marker on record by each signing key that has signed one, by the key's id.

    Empty where there is no ledger that can be read.
    """
    try:
        path = ledger_file(ledger_url(place))
        if path is not None and not path.exists():
            return {}
        engine = engine_of(ledger_url(place), writer=False)
        try:
            with engine.connect() as conn:
                return {} if schema_version(conn) is None else dict(_first_uses(conn, key_ids))
        finally:
            engine.dispose()
    except (LedgerError, SQLAlchemyError, OSError, ImportError):
        return {}


def _first_uses(conn: Connection, key_ids: tuple[str, ...]) -> list[tuple[str, float]]:
    """A marker begins with version, key id and time, and is the table's primary key: the least is the oldest."""
    found = []
    for each in key_ids:
        begin = f"{VERSION}{each}"
        least = conn.execute(
            select(func.min(keys.c.value)).where(keys.c.value >= begin, keys.c.value <= begin + "z" * 7)
        ).scalar_one_or_none()
        if least is not None:
            found.append((each, minted_at(least)))
    return found


def _file(path: Path, place: str) -> tuple[Finding, ...]:
    folder = next(each for each in (path.parent, *path.parent.parents) if each.exists())
    kind = file_system(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        sentence = f"{path} lies on {kind}, a network file system, where locks cannot be trusted"
        return (wrong("place", sentence, "put it on a local disk, or use PostgreSQL"),)
    where = f"{path} on {kind or 'a file system that is not told'}"
    if path.exists() and not path.is_file():
        return (wrong("place", f"{path} is no file", _PLACE),)
    unwritable = next((each for each in ((path, folder) if path.exists() else (folder,)) if not _writable(each)), None)
    if unwritable is not None:
        return (wrong("place", f"{unwritable} cannot be written", f"mend its permissions, or {_PLACE}"),)
    findings = [ok("place", f"{where}, writable")]
    free = shutil.disk_usage(folder).free
    if free < _LITTLE:
        findings.append(warning("space", f"{free // 1024**2} MiB are free", "make room on that disk"))
    if not path.exists():
        return (*findings, ok("version", f"not there yet: the first run makes it (version {HEAD})"))
    return (*findings, _version(place))


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK | (os.X_OK if path.is_dir() else 0))


def _database(place: str) -> tuple[Finding, ...]:
    try:
        engine = engine_of(ledger_url(place), writer=False)
        try:
            with engine.connect() as conn:
                read_only = conn.execute(_READ_ONLY).scalar_one()
        finally:
            engine.dispose()
    except (DBAPIError, OSError) as exc:
        return (unknown("place", str(ledger_error(exc, place)), "check the URL, its password and the server"),)
    if read_only:
        return (wrong("place", f"{shown(place)} is read only", "name the primary server"),)
    return (ok("place", f"{shown(place)}, writable"), _version(place))


def _version(place: str) -> Finding:
    try:
        engine = engine_of(ledger_url(place), writer=False)
        try:
            with engine.connect() as conn:
                version = schema_version(conn)
        finally:
            engine.dispose()
    except (DBAPIError, OSError) as exc:
        return wrong("version", str(ledger_error(exc, place)), f"mend it, or {_PLACE}")
    if version is not None and version > HEAD:
        return wrong("version", f"written by a newer prober ({version}, this one knows {HEAD})", "upgrade the prober")
    if version != HEAD:
        return ok("version", f"{version or 'empty'}: the next start brings it to {HEAD}")
    return ok("version", version)
