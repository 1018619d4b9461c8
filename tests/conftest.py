"""What every test shares."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from prober.ledger.ledger import Ledger
from tests.places import new_place, places_from
from tests.servers.dovecot import Dovecot, Mailbox, dovecot
from tests.servers.postfix import Postfix, postfix
from tests.servers.postgresql import Postgresql, postgresql

# Thousands of simulated probes tell each of their verdicts: pytest would keep it all.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may take longest begins first, so that no worker is left alone with it at the end."""
    items.sort(key=_longest_first)


def _longest_first(item: pytest.Item) -> float:
    allowed = item.get_closest_marker("timeout")
    return -float(allowed.args[0]) if allowed else 0.0


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    """An empty ledger of its own."""
    async with Ledger(new_place(tmp_path)) as opened:
        yield opened


@pytest.fixture(scope="session")
def dovecot_server() -> Iterator[Dovecot]:
    """Debian's Dovecot, for all tests of this process."""
    with dovecot() as server:
        yield server


@pytest.fixture(scope="session")
def postfix_server(dovecot_server: Dovecot) -> Iterator[Postfix]:
    """Debian's Postfix, which delivers into the mailboxes of that Dovecot."""
    with postfix(dovecot_server) as server:
        yield server


@pytest.fixture
def inbox(dovecot_server: Dovecot) -> Mailbox:
    """An empty mailbox of one's own on that Dovecot."""
    return dovecot_server.mailbox()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Postgresql]:
    """Debian's PostgreSQL, for all tests of this process."""
    with postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def each_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs once on each database that can hold a ledger."""
    name: str = request.param
    if name == "sqlite":
        yield name
        return
    server: Postgresql = request.getfixturevalue("postgresql_server")
    with places_from(server.database):
        yield name
