"""Debian's PostgreSQL on loopback: a database of its own for each test.

with postgresql() as server:
    place = server.database()      # a URL as `ledger` in the configuration
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from prober.ledger.opening import open_for_writing
from tests.servers.programs import HOST, free_port, need_root, running, short_folder

PASSWORD = "canary-ledger-password"
USER = "prober"
TEMPLATE = "migrated"


@dataclass
class Postgresql:
    """A server that runs. Databases are copies of one that is migrated, unless an empty one is wanted."""

    port: int
    folder: Path
    uid: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str, *, user: str = USER, password: str = PASSWORD) -> str:
        return f"postgresql://{user}:{password}@{HOST}:{self.port}/{database}"

    def database(self, *, empty: bool = False) -> str:
        """The URL of a new database."""
        name = f"ledger{next(self._numbers)}"
        self.administer(f"CREATE DATABASE {name} TEMPLATE {'template0' if empty else TEMPLATE}")
        return self.url(name)

    def administer(self, statement: str, *values: str) -> None:
        """Run one statement as the owner of everything, outside any ledger."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            conn.execute(statement.encode(), values or None)


@contextlib.contextmanager
def postgresql() -> Iterator[Postgresql]:
    """A server of one's own, from when it takes connections. What it writes need not survive the machine."""
    need_root("postgresql")
    postgres = _program("postgres")
    with short_folder("postgresql") as folder:
        # The server refuses to run as root, and wants a user that has a name: the package makes this one.
        server = Postgresql(free_port(), folder, pwd.getpwnam("postgres").pw_uid)
        os.chown(folder, server.uid, server.uid)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        data = folder / "data"
        subprocess.run(
            [_program("initdb"), "-D", data, "-U", USER, "--pwfile", secret, "-A", "scram-sha-256", "--no-sync",
             "-E", "UTF8", "--locale", "C.UTF-8"],
            check=True, capture_output=True, user=server.uid, group=server.uid, extra_groups=[],
        )  # fmt: skip
        options = {
            "listen_addresses": HOST, "port": server.port, "unix_socket_directories": folder, "fsync": "off",
            "synchronous_commit": "off", "full_page_writes": "off", "max_connections": 200,
            "shared_buffers": "32MB", "jit": "off", "autovacuum": "off",
        }  # fmt: skip
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command: list[str | Path] = [
            _setpriv(), f"--reuid={server.uid}", f"--regid={server.uid}", "--clear-groups", postgres, "-D", data,
            *settings,
        ]  # fmt: skip
        with running(command, lambda: _answers(server), folder / "server.log"):
            server.administer(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
            open_for_writing(server.url(TEMPLATE)).dispose()
            yield server


def _answers(server: Postgresql) -> bool:
    try:
        server.administer("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def _program(name: str) -> str:
    """Debian keeps a server's programs by version, off the path."""
    places = sorted(str(path.parent) for path in Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name, path=os.pathsep.join([*reversed(places), os.environ.get("PATH", "")]))
    if found is None:
        pytest.fail(f"{name} is not installed (Debian: apt-get install postgresql)", pytrace=False)
    return found


def _setpriv() -> str:
    found = shutil.which("setpriv")
    assert found is not None, "util-linux is part of every Debian"
    return found
