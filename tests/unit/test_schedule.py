"""Slots: a pure function of wall time, without drift, through every change of the clocks."""

from __future__ import annotations

import itertools
import math
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prober.model import Schedule
from prober.schedule import lateness_bound, longest_span, offset_for, period, slots, validate

CALM = settings(deadline=None)  # the machine may be busy with other tests
BERLIN = ZoneInfo("Europe/Berlin")
NOW = 1_790_000_000.0
PERIODS = st.sampled_from([0.25, 1.0, 7.0, 10.0, 60.0, 90.0, 300.0, 3600.0, 86400.0])
OFFSETS = st.integers(0, 29_999).map(lambda milliseconds: milliseconds / 1000)


def _local(cron: str, first: datetime, last: datetime, zone: str = "Europe/Berlin") -> list[str]:
    """The slots of a cron expression in Berlin's (or another) time, as its clocks show them."""
    found = slots(Schedule(cron=cron, time_zone=zone), 0.0, first.timestamp() - 1, last.timestamp())
    return [datetime.fromtimestamp(slot, first.tzinfo).strftime("%d %H:%M%z") for slot in found]


def _berlin(month: int, day: int, hour: int = 0) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=BERLIN)


# every


@CALM
@given(PERIODS, OFFSETS, st.floats(0, 4e9), st.integers(0, 50))
def test_slots_are_the_multiples_of_the_period(every: float, offset: float, after: float, periods: int) -> None:
    """Each slot is k * P + offset: in the span, in order, none left out, however far from 1970 (no drift)."""
    until = after + periods * every
    found = slots(Schedule(every=every), offset, after, until)
    first = math.floor((after - offset) / every)
    expected = [k * every + offset for k in range(first - 1, first + periods + 3)]
    assert list(found) == [slot for slot in expected if after < slot <= until]
    assert abs(len(found) - periods) <= 1


@CALM
@given(PERIODS, OFFSETS, st.floats(1e9, 2e9), st.floats(0, 40), st.floats(0, 40))
def test_adjoining_spans_make_one(every: float, offset: float, after: float, first: float, second: float) -> None:
    """Asking twice about two parts of a span gives what asking once does: nothing twice, nothing lost."""
    schedule = Schedule(every=every)
    middle = after + first * every
    until = middle + second * every
    both = slots(schedule, offset, after, middle) + slots(schedule, offset, middle, until)
    assert both == slots(schedule, offset, after, until)


def test_the_span_is_open_below_and_closed_above() -> None:
    """A slot belongs to the span that ends with it."""
    schedule = Schedule(every=10)
    assert slots(schedule, 3.0, 13.0, 33.0) == (23.0, 33.0)
    assert slots(schedule, 3.0, 33.0, 33.0) == ()
    assert slots(schedule, 3.0, 40.0, 33.0) == ()


def test_the_earliest_slots_come_within_the_limit() -> None:
    """A long span is cut at its end, so that the caller can go on from the last slot."""
    assert slots(Schedule(every=1), 0.0, 0.0, 1e9, 3) == (1.0, 2.0, 3.0)
    assert len(slots(Schedule(every=1), 0.0, 0.0, 1e9)) == 1000
    assert slots(Schedule(every=1), 0.0, 0.0, 1e9, 0) == ()
    assert slots(Schedule(cron="* * * * *", time_zone="Europe/Berlin"), 0.0, 0.0, 1e9, 2) == (60.0, 120.0)


def test_nothing_recurs_without_a_schedule() -> None:
    """A scenario for ad hoc runs alone has no slots, and no period."""
    assert slots(Schedule(), 0.0, 0.0, 1e9) == ()
    with pytest.raises(ValueError, match="no period"):
        period(Schedule(), NOW)


# cron


def test_cron_is_in_its_time_zone_and_not_staggered() -> None:
    """A person's 9:05 is 9:05 there, in summer and winter, whatever the stagger."""
    schedule = Schedule(cron="5 9 * * *", time_zone="Europe/Berlin")
    for month in (1, 7):
        start = datetime(2026, month, 10, tzinfo=BERLIN)
        found = slots(schedule, 17.0, start.timestamp(), start.timestamp() + 86400)
        assert [datetime.fromtimestamp(slot, BERLIN).time().isoformat() for slot in found] == ["09:05:00"]


def test_a_daily_run_in_the_skipped_hour_comes_an_hour_later_by_the_clock() -> None:
    """When Berlin's clocks go forward, the run of 2:30 (which never is) happens once, at 3:30."""
    spring = (_berlin(3, 28), _berlin(3, 31))
    assert _local("30 2 * * *", *spring) == ["28 02:30+0100", "29 03:30+0200", "30 02:30+0200"]
    assert _local("30 2,3 * * *", *spring)[2:4] == ["29 03:30+0200", "30 02:30+0200"]
    assert _local("30 0 * * *", *spring) == ["28 00:30+0100", "29 00:30+0100", "30 00:30+0200"]


def test_a_daily_run_in_the_repeated_hour_comes_once() -> None:
    """When Berlin's clocks go back, the run of 2:30 (which is twice) happens at the first one alone."""
    autumn = (_berlin(10, 24), _berlin(10, 27))
    assert _local("30 2 * * *", *autumn) == ["24 02:30+0200", "25 02:30+0200", "26 02:30+0100"]
    assert _local("30 0 * * *", *autumn) == ["24 00:30+0200", "25 00:30+0200", "26 00:30+0100"]


@pytest.mark.parametrize(("month", "day"), [(3, 29), (10, 25)])
def test_a_run_of_every_half_hour_never_pauses(month: int, day: int) -> None:
    """An expression for every hour keeps its distance through both changes: no gap, no double."""
    start = _berlin(month, day).timestamp()
    found = slots(Schedule(cron="*/30 * * * *", time_zone="Europe/Berlin"), 0.0, start, start + 6 * 3600)
    assert [later - earlier for earlier, later in itertools.pairwise(found)] == [1800.0] * 11


def test_a_day_that_a_zone_skipped_is_made_up_once() -> None:
    """Samoa had no 30 December 2011: its daily run moves by the day that the clocks moved, and doubles nothing."""
    apia = ZoneInfo("Pacific/Apia")
    first, last = datetime(2011, 12, 29, tzinfo=apia), datetime(2012, 1, 1, 12, tzinfo=apia)
    assert _local("0 9 * * *", first, last, "Pacific/Apia") == ["29 09:00-1000", "31 09:00+1400", "01 09:00+1400"]


def test_a_weekly_run_on_a_day_that_a_zone_skipped_is_not_lost() -> None:
    """Samoa's missing day was a Friday: its Friday run is found on Saturday, however short the span asked for."""
    apia = ZoneInfo("Pacific/Apia")
    first, last = datetime(2011, 12, 31, 8, tzinfo=apia), datetime(2011, 12, 31, 10, tzinfo=apia)
    assert _local("0 9 * * fri", first, last, "Pacific/Apia") == ["31 09:00+1400"]


def test_the_earliest_slots_come_first_through_a_change() -> None:
    """A limit cuts by moments, also where clocks show a later moment earlier or an earlier one later."""
    lord_howe = Schedule(cron="15,30 2 * * *", time_zone="Australia/Lord_Howe")
    change = datetime(2026, 10, 3, 15, 30, tzinfo=UTC).timestamp()  # 2:00 becomes 2:30
    assert slots(lord_howe, 0.0, change - 60, change + 3600) == (change, change + 900)
    assert slots(lord_howe, 0.0, change - 60, change + 3600, 1) == (change,)
    berlin = Schedule(cron="*/30 * * * *", time_zone="Europe/Berlin")
    repeated = datetime(2026, 10, 25, 0, tzinfo=UTC).timestamp()  # 2:00, for the first time
    assert slots(berlin, 0.0, repeated - 1, repeated + 7200, 2) == (repeated, repeated + 1800)


def test_weekdays_count_as_in_crontab() -> None:
    """0 and 7 are Sunday, names and ranges and steps work, and 1 is Monday."""
    start, end = _berlin(11, 1), _berlin(11, 8)  # 1 November 2026 is a Sunday
    for field, days in {
        "0": "01",
        "7": "01",
        "sun": "01",
        "1": "02",
        "Mon-Wed": "02 03 04",
        "5-7": "01 06 07",
        "*/2": "01 03 05 07",
        "1-5/2": "02 04 06",
        "4/2": "05 07",
        "mon,thu": "02 05",
    }.items():
        found = [text[:2] for text in _local(f"0 12 * * {field}", start, end - timedelta(hours=1))]
        assert found == days.split(), field


def test_day_and_weekday_are_alternatives_when_both_are_given() -> None:
    """As in crontab, the 13th or a Friday; but with a star in one of them both must hold."""
    month = (_berlin(11, 1), _berlin(11, 30))
    assert [text[:2] for text in _local("0 0 13,14 * fri", *month)] == ["06", "13", "14", "20", "27"]
    assert [text[:2] for text in _local("0 0 */7 * sun", *month)] == ["01", "08", "15", "22", "29"]
    assert _local("0 0 */30 * fri", *month) == []


@pytest.mark.parametrize(
    ("schedule", "mend"),
    [
        (Schedule(every=60, cron="* * * * *"), "keep one"),
        (Schedule(every=0), "above zero"),
        (Schedule(every=-5), "above zero"),
        (Schedule(every=math.inf), "above zero"),
        (Schedule(every=math.nan), "above zero"),
        (Schedule(every=60, time_zone="Europe/Berlim"), "such as UTC or Europe/Berlin"),
        (Schedule(every=60, time_zone=""), "such as UTC or Europe/Berlin"),
        (Schedule(every=60, time_zone="../etc/passwd"), "such as UTC or Europe/Berlin"),
        (Schedule(cron=""), "has 0 fields: write five fields"),
        (Schedule(cron="0 * * * * *"), "has 6 fields: write five fields"),
        (Schedule(cron="60 * * * *"), "write five fields"),
        (Schedule(cron="*/0 * * * *"), "write five fields"),
        (Schedule(cron="x * * * *"), "'x' is not understood"),
        (Schedule(cron="0 0 L * *"), "'L' is not understood"),
        (Schedule(cron="0 0 * jan-mar/2 *"), "is not understood"),
        (Schedule(cron="0 0 * foo *"), "write five fields"),
        (Schedule(cron="0 0 * * 8"), "write 0-7 or sun-sat"),
        (Schedule(cron="0 0 * * foo"), "write 0-7 or sun-sat"),
        (Schedule(cron="0 0 * * fri-mon"), "list them"),
        (Schedule(cron="0 0 * * *-3"), "is not understood"),
        (Schedule(cron="0 0 * * \u0663"), "is not understood"),
        (Schedule(cron="0 0 31 2 *"), "a day that never comes"),
    ],
)
def test_a_wrong_schedule_is_refused_with_the_mend(schedule: Schedule, mend: str) -> None:
    """What cannot be understood is refused before anything runs, and the message says what to write."""
    for ask in (validate, lambda wrong: slots(wrong, 0.0, 0.0, 1.0)):
        with pytest.raises(ValueError, match=re.escape(mend)):
            ask(schedule)


# cron against a reference that looks at every minute

ZONES = {
    "Europe/Berlin": [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)],
    "Australia/Lord_Howe": [datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 10, 3, 15, 30, tzinfo=UTC)],
    "America/St_Johns": [datetime(2026, 3, 8, 5, 30, tzinfo=UTC), datetime(2026, 11, 1, 4, 30, tzinfo=UTC)],
    "America/Santiago": [datetime(2026, 4, 5, 3, tzinfo=UTC), datetime(2026, 9, 6, 4, tzinfo=UTC)],
    "UTC": [datetime(2026, 6, 1, tzinfo=UTC)],
}


def _field(lowest: int, highest: int) -> st.SearchStrategy[tuple[str, frozenset[int]]]:
    """A cron field and the numbers that it stands for."""
    numbers = range(lowest, highest + 1)
    listed = st.sets(st.integers(lowest, highest), min_size=1, max_size=3)
    return st.one_of(
        st.just(("*", frozenset(numbers))),
        st.integers(2, 12).map(lambda step: (f"*/{step}", frozenset(numbers[::step]))),
        listed.map(lambda chosen: (",".join(map(str, sorted(chosen))), frozenset(chosen))),
    )


def _reference(
    matches: Callable[[datetime], bool], twice: bool, zone: ZoneInfo, after: float, until: float
) -> Sequence[float]:
    found = set()
    start = datetime.fromtimestamp(after, UTC).replace(second=0, microsecond=0) - timedelta(hours=3)
    minutes = int((until - after) / 60) + 6 * 60
    for moment in (start + timedelta(minutes=n) for n in range(minutes)):
        shown = moment.astimezone(zone)
        if matches(shown) and (twice or not shown.fold):
            found.add(moment.timestamp())
        never = shown.replace(tzinfo=None) - timedelta(hours=1)
        for reading in (never, never + timedelta(minutes=30)) if not twice else ():
            as_if = reading.replace(tzinfo=zone)
            if as_if.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != reading and matches(reading):
                found.add(as_if.timestamp())
    return sorted(slot for slot in found if after < slot <= until)


@settings(deadline=None, max_examples=60)
@given(
    zone=st.sampled_from(sorted(ZONES)),
    minute=_field(0, 59),
    hour=_field(0, 23),
    shape=st.tuples(st.integers(0, 1), st.integers(-30 * 60, 30 * 60), st.integers(0, 36 * 60), st.integers(0, 100)),
)
@example("Europe/Berlin", ("30", frozenset({30})), ("2", frozenset({2})), (0, -600, 1200, 30))
@example("Europe/Berlin", ("30", frozenset({30})), ("2", frozenset({2})), (1, 10, 1200, 50))
def test_cron_agrees_with_looking_at_every_minute(
    zone: str, minute: tuple[str, frozenset[int]], hour: tuple[str, frozenset[int]], shape: tuple[int, int, int, int]
) -> None:
    """Around every kind of clock change the slots are those of the rule, and two parts of a span make the whole."""
    change, start, length, cut = shape
    after = ZONES[zone][change % len(ZONES[zone])].timestamp() + start * 60 + cut / 7
    until = after + length * 60
    middle = after + (until - after) * cut / 100
    schedule = Schedule(cron=f"{minute[0]} {hour[0]} * * *", time_zone=zone)
    whole = slots(schedule, 0.0, after, until, 10**6)
    expected = _reference(
        lambda shown: shown.minute in minute[1] and shown.hour in hour[1],
        hour[0].startswith("*"),
        ZoneInfo(zone),
        after,
        until,
    )
    assert list(whole) == expected
    assert slots(schedule, 0.0, after, middle, 10**6) + slots(schedule, 0.0, middle, until, 10**6) == whole
    assert slots(schedule, 0.0, after, until, 3) == whole[:3]


# stagger, period, lateness


@CALM
@given(st.text(max_size=40), st.text(max_size=40), st.floats(0.001, 1e6))
def test_the_stagger_is_constant_and_within_its_bound(scenario: str, location: str, every: float) -> None:
    """The offset is the same each time, below both the period and 30 s, and not negative."""
    offset = offset_for(scenario, location, every)
    assert offset == offset_for(scenario, location, every)
    assert 0 <= offset < min(every, 30)


def test_the_stagger_spreads_scenarios_and_locations() -> None:
    """Many scenarios fill the whole range, another location starts at another time, another process at the same."""
    offsets = [offset_for(f"scenario-{n}", "berlin", 60) for n in range(1000)]
    assert all(60 <= sum(low <= offset < low + 3 for offset in offsets) <= 140 for low in range(0, 30, 3))
    assert offset_for("a", "berlin", 60) != offset_for("a", "oslo", 60)
    assert offset_for("ab", "c", 60) != offset_for("a", "bc", 60)
    said = subprocess.run(
        [sys.executable, "-c", "from prober.schedule import offset_for; print(offset_for('a', 'berlin', 60))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert float(said.stdout) == offset_for("a", "berlin", 60)


def test_the_period_is_the_distance_to_the_following_slot() -> None:
    """Constant for ``every``; for cron that of the slot at or next after the time, through clock changes."""
    assert period(Schedule(every=300), NOW) == 300
    office = Schedule(cron="*/10 9-16 * * 1-5", time_zone="Europe/Berlin")
    friday = datetime(2026, 11, 20, 16, tzinfo=BERLIN).timestamp()
    assert period(office, friday) == 600
    assert period(office, friday + 50 * 60) == (2 * 24 + 16) * 3600 + 600  # 16:50 to Monday 9:00
    assert period(office, friday + 49 * 60 + 1) == (2 * 24 + 16) * 3600 + 600
    daily = Schedule(cron="0 12 * * *", time_zone="Europe/Berlin")
    assert period(daily, _berlin(3, 28, 12).timestamp()) == 23 * 3600
    assert period(daily, _berlin(10, 24, 12).timestamp()) == 25 * 3600
    assert period(Schedule(cron="0 0 29 2 *"), NOW) == 1461 * 86400


@pytest.mark.parametrize(("every", "bound"), [(1, 0.5), (10, 5), (60, 30), (300, 30), (86400, 30)])
def test_lateness_is_bounded_by_half_a_period_and_half_a_minute(every: float, bound: float) -> None:
    """A slot is late after min(period / 2, 30 s)."""
    assert lateness_bound(every) == bound


# the longest span


@pytest.mark.parametrize(
    ("cron", "zone", "longest"),
    [
        ("* * * * *", "UTC", timedelta(minutes=3)),
        ("*/5 * * * *", "Europe/Berlin", timedelta(minutes=15)),
        ("0 9 * * mon-fri", "UTC", timedelta(days=5)),  # from Wednesday to Monday, or from Thursday to Tuesday
        ("0 9 * * mon-fri", "Europe/Berlin", timedelta(days=5, hours=1)),
        ("*/5 9-17 * * mon-fri", "UTC", timedelta(days=2, hours=15, minutes=15)),
        ("7 3,15 * * *", "UTC", timedelta(hours=36)),
        ("0 0 1 * *", "UTC", timedelta(days=92)),
        ("0 0 29 2 *", "UTC", timedelta(days=3 * 1461)),
    ],
)
def test_the_longest_span_of_three_slots(cron: str, zone: str, longest: timedelta) -> None:
    """Weekends, nights, short months and leap years are in it, and an hour where clocks may be moved."""
    assert longest_span(Schedule(cron=cron, time_zone=zone), 3) == longest.total_seconds()


@settings(CALM, max_examples=10)
@given(
    st.sampled_from(["*/20 8-9 * * mon", "0 9 * * mon-fri", "30 */6 */2 * *", "0 9 1 * mon", "5 4 * * *"]),
    st.sampled_from(["UTC", "Europe/Berlin"]),
    st.integers(1, 4),
    st.integers(0, 400),
)
def test_no_span_is_longer(cron: str, zone: str, number: int, days: int) -> None:
    """However one looks at the slots of two months, those so many apart lie no further apart."""
    schedule, begin = Schedule(cron=cron, time_zone=zone), NOW + days * 86400
    found = slots(schedule, 0.0, begin, begin + 60 * 86400)
    longest = longest_span(schedule, number)
    assert all(later - former <= longest for former, later in zip(found, found[number:], strict=False))


def test_the_longest_span_of_a_period() -> None:
    """So many periods; what never recurs has none."""
    assert longest_span(Schedule(every=90.0), 3) == 270.0
    with pytest.raises(ValueError, match="no slots"):
        longest_span(Schedule(), 3)
