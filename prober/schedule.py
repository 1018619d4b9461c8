"""Scenario -> slots: when a run is planned, as a pure function of wall time."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prober.model import Schedule

MOST_STAGGER = 30.0
MOST_LATENESS = 30.0

_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELD = re.compile(r"(?:\*|\d+(?:-\d+)?)(?:/\d+)?|[a-z]{3}(?:-[a-z]{3})?", re.IGNORECASE | re.ASCII)
_WEEKDAY = re.compile(r"(\*|\d|[a-z]{3})(?:-(\d|[a-z]{3}))?(?:/(\d))?", re.IGNORECASE | re.ASCII)
_CRON_MEND = "write five fields: minute hour day month weekday, such as '*/5 * * * *' or '30 9 * * mon-fri'"
_HOUR = 3600.0
_DAY = 86400.0
_HORIZON = 40 * 366 * _DAY
_LOOKED_THROUGH = 20 * 366 * _DAY
_MOST_DATES = 1000
# No zone has ever moved its clocks by more than a day.
_SHIFT = timedelta(hours=26)
_REFERENCE = datetime(2001, 1, 1, tzinfo=UTC)

_Calendar = Callable[[datetime], datetime | None]
"""The first matching time at or after the given one, both as clocks on the wall show them, written as if in UTC."""


def slots(schedule: Schedule, offset: float, after: float, until: float, limit: int = 1000) -> tuple[float, ...]:
    """The slots in (after, until], all in wall seconds and in order; of more than ``limit`` the earliest.

    ``every``: the multiples of the period since 1970, plus ``offset``. Cron: the minutes that the expression names in
    its time zone, without offset: a person who writes 9:05 means it. Where clocks go forward, an hour field that
    begins with ``*`` skips what does not exist, any other runs it as late as clocks moved; where they go back, the
    first runs in both hours and the other once, in the first. Empty without ``every`` and cron. Raises ValueError,
    with the mend, for a schedule that is none.
    """
    validate(schedule)
    if until <= after or limit <= 0:
        return ()
    if schedule.every is not None:
        return tuple(_multiples(schedule.every, offset, after, until, limit))
    if schedule.cron is not None:
        return _cron_slots(schedule.cron, schedule.time_zone, after, until, limit)
    return ()


def validate(schedule: Schedule) -> None:
    """Raise ValueError, with the mend, unless slots can be computed."""
    if schedule.every is not None and schedule.cron is not None:
        raise ValueError("a schedule has both every and cron: keep one of them")
    if schedule.every is not None and not (math.isfinite(schedule.every) and schedule.every > 0):
        raise ValueError(f"a schedule cannot run every {schedule.every!r} seconds: write a period above zero")
    _zone(schedule.time_zone)
    if schedule.cron is not None:
        _calendars(schedule.cron)


def offset_for(scenario: str, location: str, period: float) -> float:
    """The constant stagger in seconds of a scenario at a location, in [0, min(period, 30)), whole milliseconds.

    It keeps scenarios from starting together, and from always meeting what happens on the full minute.
    """
    digest = hashlib.sha256(f"{location}\0{scenario}".encode()).digest()
    share = (int.from_bytes(digest[:8], "big") >> 11) / 2**53
    return math.floor(share * min(period, MOST_STAGGER) * 1000) / 1000


def period(schedule: Schedule, at: float) -> float:
    """Seconds from the slot at or next after wall time ``at`` to the one that follows it.

    Raises ValueError for a schedule without ``every`` and cron: nothing recurs there.
    """
    if schedule.every is not None:
        validate(schedule)
        return schedule.every
    if schedule.cron is None:
        raise ValueError("a schedule without every and cron has no period: write one of them")
    first = _next_slot(schedule, math.nextafter(at, -math.inf))
    return _next_slot(schedule, first) - first


def longest_span(schedule: Schedule, number: int) -> float:
    """The longest time in seconds from a slot to the ``number``-th one after it.

    Of a cron expression: among the slots of a thousand dates or twenty years, and an hour more where clocks may be
    moved within it. Raises ValueError for a schedule without ``every`` and cron.
    """
    validate(schedule)
    if schedule.every is not None:
        return number * schedule.every
    if schedule.cron is None:
        raise ValueError("a schedule without every and cron has no slots: write one of them")
    minute, hour, *of_date = schedule.cron.split()
    begin = _REFERENCE.timestamp()
    # A date of the expression has all of its times of the day: so dates and times are counted apart.
    dates = slots(Schedule(cron=" ".join(("0", "0", *of_date))), 0.0, begin - 1, begin + _LOOKED_THROUGH, _MOST_DATES)
    times = slots(Schedule(cron=f"{minute} {hour} * * *"), 0.0, begin - 1, begin + _DAY - 1, 2000)
    following = {tuple(date - dates[i] for date in dates[i : i + number + 1]) for i in range(len(dates))}
    longest = max((_longest(passed, times, number) for passed in following), default=0.0) or _LOOKED_THROUGH
    return longest if longest < _HOUR or schedule.time_zone == "UTC" else longest + _HOUR


def _longest(dates: Sequence[float], times: Sequence[float], number: int) -> float:
    found = [date + time for date in dates for time in times]
    return max((later - former for former, later in zip(found, found[number:], strict=False)), default=0.0)


def lateness_bound(period: float) -> float:
    """Seconds after its slot at which a run is not started any more: half the period, at most 30 s."""
    return min(period / 2, MOST_LATENESS)


def _multiples(every: float, offset: float, after: float, until: float, limit: int) -> Iterator[float]:
    number = math.floor((after - offset) / every)  # rounding may put it one too low: hence the comparison below
    while limit > 0:
        slot = number * every + offset
        if slot > until:
            return
        if slot > after:
            yield slot
            limit -= 1
        number += 1


def _next_slot(schedule: Schedule, after: float) -> float:
    step = _HOUR
    end = after + _HORIZON
    while after < end:
        if found := slots(schedule, 0.0, after, after + step, 1):
            return found[0]
        after, step = after + step, step * 2
    raise ValueError(f"the cron expression {schedule.cron!r} names no time in the next 40 years")


def _cron_slots(cron: str, time_zone: str, after: float, until: float, limit: int) -> tuple[float, ...]:
    zone = _zone(time_zone)
    first, last = datetime.fromtimestamp(after, zone), datetime.fromtimestamp(until, zone)
    margin = _SHIFT if _moves(first, last) else timedelta(0)
    twice = cron.split()[1].startswith("*")
    found: set[float] = set()
    for calendar in _calendars(cron):
        mine: set[float] = set()
        stop = last.replace(tzinfo=UTC) + margin
        fire = calendar(first.replace(tzinfo=UTC) - margin)
        while fire is not None and fire <= stop:
            mine.update(slot for slot in _instants(fire, zone, twice) if after < slot <= until)
            if len(mine) >= limit:
                stop = min(stop, fire + margin)  # a later reading may be an earlier moment, but not by more
            fire = calendar(fire + timedelta(minutes=1))
        found |= mine
    return tuple(sorted(found)[:limit])


def _moves(first: datetime, last: datetime) -> bool:
    """Whether the zone may move its clocks near the span; no zone moves there and back within days."""
    return last - first > _SHIFT or (first - _SHIFT).utcoffset() != (last + _SHIFT).utcoffset()


def _instants(reading: datetime, zone: ZoneInfo, twice: bool) -> Iterator[float]:
    """The wall seconds at which clocks in the zone show ``reading``; ``twice`` as :func:`slots` explains it."""
    local = reading.replace(tzinfo=zone)
    early, late = local.timestamp(), local.replace(fold=1).timestamp()
    if early == late:
        yield early
    elif early < late:  # clocks go back: it is shown twice
        yield early
        if twice:
            yield late
    elif not twice:  # clocks go forward: it is never shown; the offset from before counts
        yield early


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise ValueError(f"unknown time zone {name!r}: write a name such as UTC or Europe/Berlin") from exc


@lru_cache(maxsize=256)
def _calendars(cron: str) -> tuple[_Calendar, ...]:
    """What a cron expression matches: the union of one or two calendars.

    As in crontab(5), day and weekday are alternatives when both are restricted (begin with no ``*``). APScheduler
    would demand both, counts weekdays from Monday, and in a zone of its own loses the runs of the first hour of the
    day after clocks went forward: so it only ever sees one of the two, names for weekdays, and UTC.
    """
    fields = cron.split()
    if len(fields) != 5:
        raise ValueError(f"cron expression {cron!r} has {len(fields)} fields: {_CRON_MEND}")
    minute, hour, day, month, weekday = fields
    for written in fields[:4]:
        if not all(_FIELD.fullmatch(item) for item in written.split(",")):
            raise ValueError(f"cron expression {cron!r}: {written!r} is not understood; {_CRON_MEND}")
    weekdays = _weekdays(weekday, cron)
    both_restricted = not day.startswith("*") and not weekday.startswith("*")
    ways = [(day, "*"), ("*", weekdays)] if both_restricted else [(day, weekdays)]
    return tuple(
        _calendar(cron, {"minute": minute, "hour": hour, "day": days, "month": month, "day_of_week": names})
        for days, names in ways
    )


def _calendar(cron: str, fields: Mapping[str, str]) -> _Calendar:
    from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415 - 90 ms that only cron schedules need

    try:
        trigger = CronTrigger(**fields, second=0, timezone=UTC)
        end = _REFERENCE + timedelta(seconds=_HORIZON)
        bounded = CronTrigger(**fields, second=0, timezone=UTC, end_date=end)
    except ValueError as exc:
        raise ValueError(f"cron expression {cron!r}: {exc}; {_CRON_MEND}") from exc
    if bounded.get_next_fire_time(None, _REFERENCE) is None:
        raise ValueError(f"cron expression {cron!r} names a day that never comes; {_CRON_MEND}")

    def following(moment: datetime) -> datetime | None:
        fire: datetime | None = trigger.get_next_fire_time(None, moment)
        return fire

    return following


def _weekdays(written: str, cron: str) -> str:
    """The weekday field of crontab(5), where 0 and 7 are Sunday, as a list of names."""
    chosen: set[int] = set()
    for item in written.split(","):
        match = _WEEKDAY.fullmatch(item)
        if match is None or (match[1] == "*" and match[2]):
            raise ValueError(f"cron expression {cron!r}: weekday {item!r} is not understood; {_CRON_MEND}")
        first = 0 if match[1] == "*" else _weekday(match[1], cron)
        last = _weekday(match[2], cron) if match[2] else (6 if match[1] == "*" or match[3] else first)
        step = int(match[3] or 1)
        if first > last or step == 0:
            raise ValueError(f"cron expression {cron!r}: weekdays {item!r} go backwards; list them: 'fri,sat,sun'")
        chosen.update(number % 7 for number in range(first, last + 1, step))
    return ",".join(_WEEKDAYS[number] for number in sorted(chosen))


def _weekday(text: str, cron: str) -> int:
    number = int(text) if text.isdigit() else _WEEKDAYS.index(text.lower()) if text.lower() in _WEEKDAYS else 8
    if number > 7:
        raise ValueError(f"cron expression {cron!r}: no weekday is called {text!r}; write 0-7 or sun-sat")
    return number
