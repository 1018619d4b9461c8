"""When a watch loop reads: around every deadline, at its polling period, within its provider's limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.clock import Instant
from prober.errors import Unreadable
from prober.ledger.awaiting import Awaited
from prober.sight import IDLE_READ, LEAST_MARGIN, MAX_RETRY, Sight

START = Instant(1_000_000.0, 500.0, "boot")


def at(seconds: float) -> Instant:
    return START.plus(seconds)


def looked(started: float, ended: float, rate: float | None = None) -> Sight:
    sight = Sight(rate)
    sight.took(at(started), at(ended))
    return sight


def test_reads_bracket_a_deadline() -> None:
    """One read ends by the deadline, one starts at it."""
    sight = looked(0, 0.01)
    awaited = Awaited(True, at(30))
    assert sight.next_read(awaited, None, at(1)).since(at(30)) == pytest.approx(-LEAST_MARGIN)
    assert looked(29.96, 29.97).next_read(awaited, None, at(29.98)).since(at(30)) == 0
    missed = sight.next_read(awaited, None, at(29.99))
    assert missed.since(at(29.99)) < 0, "the read before the deadline was not done yet: at once"
    assert sight.next_read(awaited, None, at(30.2)).since(at(30)) == 0


def test_slow_reads_start_earlier() -> None:
    """The margin before a deadline follows the slowest of the latest reads."""
    assert looked(0, 2).next_read(Awaited(True, at(30)), None, at(5)).since(at(27)) == 0


def test_polling_only_while_something_is_awaited() -> None:
    """The polling period counts while deliveries are open; otherwise sight is proven once a minute."""
    sight = looked(0, 0.01)
    assert sight.next_read(Awaited(True, None), 0.1, at(0.05)).since(at(0.1)) == 0
    assert sight.next_read(Awaited(False, None), 0.1, at(0.05)).since(at(IDLE_READ)) == 0


def test_blind_observer_is_asked_again_within_the_bound() -> None:
    """Retries grow to a bound that brings sight back within 10 s of the server."""
    sight = Sight()
    pauses = [sight.failed(Unreadable("unreachable")) for _ in range(2000)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_RETRY < 10
    sight.took(at(0), at(1))
    assert sight.failed(Unreadable("unreachable")) == pauses[0]


@given(st.lists(st.floats(0, 2), min_size=1, max_size=300), st.sampled_from([10.0, 45.0, 600.0]))
def test_reads_keep_the_providers_limit(gaps: list[float], rate: float) -> None:
    """However often a read is wanted: within any minute there are at most the allowed number and one burst."""
    sight, now, reads = Sight(rate), 0.0, []
    for gap in gaps:
        now += gap
        now += sight.pause_before_read(at(now))
        reads.append(now)
    burst = max(2.0, 10.0 * rate / 60)
    for start in reads:
        assert sum(start <= read < start + 60 for read in reads) <= rate + burst + 1
