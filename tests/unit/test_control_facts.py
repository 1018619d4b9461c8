"""Control messages on record: what they say of a provider's clock and of its own delay."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from prober.clock import Instant
from prober.interval import CLOCK_DRIFT
from prober.ledger import clocks, observing
from prober.ledger.controls import GIVE_UP, LOST, UNSEEN, ControlFact, controls_around
from prober.ledger.ledger import Ledger
from prober.ledger.tables import controls, totals
from prober.model import Channel, ChannelKind, Control, ControlSeen, How, Reading, Stamp

HERE = "here"
START = Instant(1_800_000_000.0, 1_000.0, "boot")
CHANNEL = Channel("discord", ChannelKind.DISCORD, "bot", "42")
AHEAD = 7.25  # how far the provider's clock is ahead


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    async with Ledger(str(tmp_path / "ledger.sqlite")) as opened:
        yield opened


def control(at: float, *, ahead: float = AHEAD, took: float = 0.2, name: str = "") -> Control:
    sent = START.plus(at)
    stamp = Stamp(sent.wall + took / 2 + ahead, 0.001, "discord")
    return Control("discord", sent, sent.plus(took), stamp, name or f"m{at:g}")


async def post(ledger: Ledger, posted: Control) -> None:
    seen = observing.Observed("bot", (), {"discord": CHANNEL}, controls=(posted,))
    await ledger.write(observing.record, HERE, seen, posted.answered)


async def see(ledger: Ledger, posted: Control, after: float, how: How = How.PUSH) -> None:
    moment = posted.sent.plus(after)
    seen = ControlSeen("discord", posted.id, moment, how)
    told = observing.Observed("bot", (), {"discord": CHANNEL}, controls_seen=(seen,))
    await ledger.write(observing.record, HERE, told, moment)


async def read(ledger: Ledger, at: float, cursor: str | None, new: str, *, continues: bool = True) -> None:
    started = START.plus(at)
    told = observing.Observed(
        "bot", (), {"discord": CHANNEL}, cursor, new, {"discord": Reading(started, started, continues)}
    )
    await ledger.write(observing.record, HERE, told, started)


async def facts(ledger: Ledger) -> tuple[ControlFact, ...]:
    around = (START.wall - 1e6, START.wall + 1e6)
    return await ledger.read(controls_around, HERE, CHANNEL.identity, *around)


def series(conn: Connection, name: str) -> dict[str, float]:
    rows = conn.execute(select(totals).where(totals.c.name == name)).all()
    return {json.loads(row.labels).get("le", json.loads(row.labels).get("reason", "")): row.value for row in rows}


async def test_one_exchange_bounds_the_clock_and_its_bounds_age(ledger: Ledger) -> None:
    """The offset is known to half the exchange at once, and to the drift of a day more a day later."""
    await post(ledger, control(0))
    (now,) = await ledger.read(clocks.clock_bounds, HERE, START.plus(0.2))
    assert abs(now.offset - AHEAD) <= now.uncertainty
    assert now.uncertainty == pytest.approx(0.1, abs=0.001)
    (later,) = await ledger.read(clocks.clock_bounds, HERE, START.plus(86_400.2))
    assert later.uncertainty == pytest.approx(now.uncertainty + 86_400 * CLOCK_DRIFT)
    assert await ledger.read(clocks.clock_bounds, HERE, Instant(0, 0, "another boot")) == ()


async def test_a_step_of_our_own_wall_clock_moves_the_offset_and_is_no_contradiction(ledger: Ledger) -> None:
    """Bounds are kept on boottime: when our wall clock steps back by a minute the provider's is a minute more ahead."""
    await post(ledger, control(0))
    stepped = Instant(START.wall - 60, START.boottime + 0.2, "boot")
    (bound,) = await ledger.read(clocks.clock_bounds, HERE, stepped)
    assert bound.offset == pytest.approx(AHEAD + 60.2, abs=0.2)
    assert bound.step is None


async def test_many_exchanges_narrow_and_never_exclude_the_truth(ledger: Ledger) -> None:
    """Exchanges every twelve minutes over a clock that drifts as fast as it may keep the truth within the bounds."""
    for number in range(40):
        at = 720.0 * number
        await post(ledger, control(at, ahead=AHEAD + 0.9 * CLOCK_DRIFT * at, took=0.05 + 0.4 * (number % 3)))
        (bound,) = await ledger.read(clocks.clock_bounds, HERE, START.plus(at + 0.5))
        assert abs(bound.offset - AHEAD - 0.9 * CLOCK_DRIFT * at) <= bound.uncertainty + 0.001
        assert bound.step is None
    assert await ledger.read(series, "internal_errors_total") == {}


@pytest.mark.parametrize("ahead", [AHEAD + 3.0, AHEAD - 3.0])
async def test_a_step_of_the_providers_clock_is_counted_and_said(ledger: Ledger, ahead: float) -> None:
    """Exchanges that exclude each other are a step: counted, dated, measured, and no stamp from before is read on."""
    await post(ledger, control(0))
    await post(ledger, control(720, ahead=ahead))
    (bound,) = await ledger.read(clocks.clock_bounds, HERE, START.plus(720.2))
    assert abs(bound.offset - ahead) <= bound.uncertainty
    assert bound.stepped_at == pytest.approx(START.wall + 720.2)
    assert bound.step is not None
    assert abs(bound.step - (ahead - AHEAD)) <= 0.2 + 720 * CLOCK_DRIFT + 0.01
    assert await ledger.read(series, "internal_errors_total") == {"step": 1.0}
    offset = (await ledger.read(clocks.offsets_of, HERE))["boot"]["discord"]
    assert offset.during(START.boottime + 719.9, START.boottime + 730) is None
    assert offset.during(START.boottime + 720, START.boottime + 730) is not None
    await post(ledger, control(1440, ahead=ahead))
    (kept,) = await ledger.read(clocks.clock_bounds, HERE, START.plus(1440.2))
    assert kept.stepped_at == bound.stepped_at
    assert await ledger.read(series, "internal_errors_total") == {"step": 1.0}


async def test_a_providers_own_delay_is_counted_once(ledger: Ledger) -> None:
    """From posted to pushed, in the histogram once, however often it is seen again."""
    posted = control(0)
    await post(ledger, posted)
    assert await facts(ledger) == ()
    await see(ledger, posted, 8.0)
    await see(ledger, posted, 9.0, How.POLL)
    assert await facts(ledger) == (ControlFact("discord", "discord", START.wall, 0.0, 8.0, "push"),)
    assert await ledger.read(series, "control_latency_seconds_bucket") == {"10.0": 1.0}
    assert await ledger.read(series, "control_latency_seconds_sum") == {"": 8.0}


async def test_a_read_that_lacked_it_gives_the_delay_a_lower_bound(ledger: Ledger) -> None:
    """Found by the second read, lacked by the first: it took at least as long as until the first."""
    await read(ledger, -5, None, "a", continues=False)
    posted = control(0)
    await post(ledger, posted)
    await read(ledger, 4, "a", "b")
    await see(ledger, posted, 9.0, How.POLL)
    assert await facts(ledger) == (ControlFact("discord", "discord", START.wall, 4.0, 9.0, "poll"),)


async def test_what_is_found_after_an_absence_says_nothing_of_the_provider(ledger: Ledger) -> None:
    """A control message of an earlier life, found an hour later, is in no histogram."""
    posted = control(0)
    await post(ledger, posted)
    await see(ledger, posted, 3600.0, How.HISTORY)
    assert await ledger.read(series, "control_latency_seconds_count") == {}
    assert [fact.lower for fact in await facts(ledger)] == [0.0]


@pytest.mark.parametrize(("covered", "how"), [(True, LOST), (False, UNSEEN)])
async def test_a_control_message_that_never_shows_is_lost_if_somebody_looked(
    ledger: Ledger, covered: bool, how: str
) -> None:
    """Complete reads that lacked it for ten minutes say lost; where nobody could look nothing is said."""
    await read(ledger, -5, None, "a", continues=False)
    await post(ledger, control(0))
    if covered:
        await read(ledger, GIVE_UP + 1, "a", "b")
    await post(ledger, control(720))
    rows = await ledger.read(lambda conn: conn.execute(select(controls).order_by(controls.c.id)).all())
    assert [row.how for row in rows] == [how, ""]
    counted = await ledger.read(series, "control_latency_seconds_bucket")
    assert counted == ({"+Inf": 1.0} if covered else {})
    assert [fact.upper for fact in await facts(ledger)] == ([None] if covered else [])
