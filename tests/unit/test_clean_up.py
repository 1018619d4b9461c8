"""What may be removed, and when: the decisions alone."""

from __future__ import annotations

import itertools
import secrets
from pathlib import Path

import pytest

from prober.clean_up import (
    DAY,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Ended,
    Keeping,
    carries_our_key,
    due_after,
    due_since,
    ended,
    minted_last,
    next_attempt,
)
from prober.clock import Instant
from prober.config import load_settings
from prober.errors import ConfigurationError
from prober.marker import Keyring, SigningKey, find, mint, mint_content_id
from prober.model import Outcome, Timeliness
from prober.sweep import Allowance

KEEPING = Keeping(success=600, failure=86_400, leftover=172_800)
OURS = Keyring("staging", (SigningKey("s", b"a secret that only we know"),))
THEIRS = Keyring("production", (SigningKey("p", b"a secret that only they know"),))
SAME_ID = Keyring("production", (SigningKey("s", b"another secret, under our key's id"),))
NOW = 1_795_000_000.0


def at(seconds: float) -> Instant:
    return Instant(NOW + seconds, seconds, "boot")


@pytest.mark.parametrize(("timeliness", "outcome"), list(itertools.product(Timeliness, Outcome)), ids=str)
def test_only_what_is_well_is_a_success(timeliness: Timeliness, outcome: Outcome) -> None:
    """On time and delivered, or withheld as it should be; whatever else is looked at later, and kept longer."""
    good = (timeliness, outcome) in {("on_time", "delivered"), ("moot", "withheld")}
    assert ended([(timeliness, outcome, NOW)]).good is good
    assert not ended([(timeliness, outcome, NOW), (Timeliness.OVERDUE, Outcome.LOST, NOW)]).good


def test_a_probe_ends_with_its_last_question() -> None:
    """One delivery that was settled late keeps its sisters' messages."""
    well = (Timeliness.ON_TIME, Outcome.DELIVERED)
    assert ended([(*well, NOW), (*well, NOW + 50), (*well, NOW + 3)]) == Ended(NOW + 50, good=True)


def test_failures_stay_longer_than_successes() -> None:
    """Also where somebody asks for the opposite."""
    assert due_after(Ended(NOW, good=True), KEEPING) == NOW + 600
    assert due_after(Ended(NOW, good=False), KEEPING) == NOW + 86_400
    assert due_after(Ended(NOW, good=False), Keeping(success=600, failure=1)) == NOW + 600


def test_what_no_ledger_knows_goes_by_its_age() -> None:
    """A marker tells when it was minted: another instance of this environment may still be waiting for it."""
    assert due_since(NOW, KEEPING) == NOW + 172_800


def test_attempts_that_fail_come_ever_more_rarely() -> None:
    """From a minute up to six hours, however often it was tried."""
    pauses = [next_attempt(attempts, NOW) - NOW for attempts in (0, 1, 2, 3, 8, 20, 10_000)]
    assert pauses == sorted(pauses)
    assert pauses[0] == pauses[1] == FIRST_PAUSE
    assert pauses[2] == 2 * FIRST_PAUSE
    assert pauses[-1] == LONGEST_PAUSE


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        (mint(OURS, NOW, secrets.token_bytes(16)), True),
        (f"https://x.example/{mint_content_id(OURS, NOW, secrets.token_bytes(16))}", True),
        (mint(THEIRS, NOW, secrets.token_bytes(16)), False),
        (mint(SAME_ID, NOW, secrets.token_bytes(16)), False),
        (mint_content_id(THEIRS, NOW, secrets.token_bytes(16)), False),
        ("5e0ee5f4-6bd1-4a6e-9f0e-3d0a3c1b2a49", False),
        ("delivery-prober control, or so it says", False),
        ("", False),
    ],
    ids=["marker", "content id", "unknown key", "forged", "their content id", "an id", "words", "nothing"],
)
def test_only_our_own_verified_keys_make_it_ours(text: str, ours: bool) -> None:
    """A stranger's message, a forged key and another environment's are never touched."""
    found = find([text], ["inbox+tag@example.org"], OURS)
    assert carries_our_key(found) is ours
    assert (minted_last(found) == NOW) is ours


def test_the_youngest_key_tells_the_age() -> None:
    """A message that carries an old and a new key of ours is as young as the new one."""
    texts = [mint(OURS, NOW - 9, secrets.token_bytes(16)), mint(OURS, NOW - 500, secrets.token_bytes(16))]
    assert minted_last(find(texts, [], OURS)) == NOW - 9


@pytest.mark.parametrize("per_minute", [1.0, 6.0, 60.0, 600.0])
def test_an_allowance_is_never_exceeded(per_minute: float) -> None:
    """Over ten minutes no more than the limit goes out, and hardly less."""
    allowance, done = Allowance(per_minute), 0
    for tenth in range(6000):
        room = allowance.left(at(tenth / 10))
        allowance.spend(room)
        done += room
    burst = max(1.0, per_minute / 10)
    assert 10 * per_minute - 1 <= done <= 10 * per_minute + burst + 1


def test_no_limit_is_bounded_by_the_batch_alone() -> None:
    allowance = Allowance(None)
    allowance.spend(10_000)
    assert allowance.left(at(0)) == 100


def test_times_that_contradict_each_other_are_told_with_their_place(tmp_path: Path) -> None:
    """A failure that would go before a success is an error that names the line."""
    path = tmp_path / "prober.yaml"
    path.write_text(
        "environment: test\nkeys: [{id: a, secret: sixteen characters}]\nlimits:\n"
        "  sweep: {success: 1h, failure: 5m}\n",
        encoding="utf-8",
    )
    with pytest.raises(ConfigurationError, match=r"prober\.yaml:4: limits.sweep.*failure is shorter than success"):
        load_settings(path)
    path.write_text(path.read_text(encoding="utf-8").replace("failure: 5m", "failure: 3d"), encoding="utf-8")
    assert load_settings(path).limits.upkeep.keeping == Keeping(3600, 3 * DAY, 2 * DAY)
