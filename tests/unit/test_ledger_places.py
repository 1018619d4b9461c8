"""Where a ledger lies, as it is read and as it is told: a wrong place is an error, a password is never shown."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from prober.errors import LedgerError, LedgerTooNew
from prober.ledger import opening

CANARY = "canary-5f0c2b9e7d"
PLACES = [
    f"postgresql://prober:{CANARY}@127.0.0.1:1/probes",
    f"postgresql://127.0.0.1:1/probes?user=prober&password={CANARY}",
    f"postgresql://127.0.0.1:1/probes?sslpassword={CANARY}&sslmode=require",
]


@pytest.mark.parametrize("place", PLACES)
def test_a_place_is_told_without_its_password(place: str) -> None:
    """Host and database are named, the password is not, wherever in the URL it stands."""
    told = opening.shown(place)
    assert "127.0.0.1:1/probes" in told
    assert CANARY not in told


def test_a_path_is_told_as_it_is() -> None:
    """A file has no password."""
    assert opening.shown("/var/lib/prober/ledger.sqlite") == "/var/lib/prober/ledger.sqlite"


@pytest.mark.parametrize("place", PLACES)
def test_no_error_quotes_the_password(place: str) -> None:
    """Neither what the database says, nor a version that does not fit, tells more than the place."""
    said = OperationalError("select 1", {}, Exception(f"connection to {place} failed"))
    told = [str(opening.ledger_error(said, place)), str(opening.outdated("0001", place))]
    with pytest.raises(LedgerTooNew) as caught:
        opening.refuse_newer("9999", place)
    for words in (*told, str(caught.value)):
        assert "127.0.0.1:1/probes" in words
        assert CANARY not in words


@pytest.mark.parametrize("place", [f"postgresql://u:{CANARY}@h:port/x", f"://{CANARY}", f"postgres://u:{CANARY}@h/x"])
def test_a_url_that_is_none_is_an_error_with_the_mend(place: str) -> None:
    """What cannot be read as a URL, or names another database, says what to write, and quotes nothing of it."""
    with pytest.raises(LedgerError, match=r"postgresql://USER@HOST/DATABASE|sqlite or postgresql") as caught:
        opening.ledger_url(place)
    assert CANARY not in str(caught.value)
