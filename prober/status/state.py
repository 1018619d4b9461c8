"""A glance at the ledger -> what the page says of each scenario on each channel, and in one line of all. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import Any

from sqlalchemy import Row

from prober.durations import format_duration
from prober.ledger.glance import Glance
from prober.model import Channel, Outcome, Scenario, Timeliness
from prober.report.ruling import OPEN
from prober.report.values import Result
from prober.status.marks import Plot, latency_of, plot, word_of

BLIND, WAITING = "blind", "no result yet"
TONES = {
    Result.PASS.value: "pass",
    Result.FAIL.value: "fail",
    Result.VOID.value: "void",
    Result.INCONCLUSIVE.value: "inconclusive",
    BLIND: "void",
    WAITING: "idle",
}
"""The look of each state; beside it stands a word, since not everybody sees colours."""


@dataclass(frozen=True, slots=True)
class LaneState:
    """One scenario on one channel. ``run`` is how many deliveries in a row said so; ``latency`` is the last one's."""

    channel: Channel
    state: str
    word: str
    run: int
    latency: str
    probe: str
    settled_at: float | None
    good: int
    judged: int
    in_flight: int
    plot: Plot

    @property
    def tone(self) -> str:
        """The class of its look."""
        return TONES[self.state]


@dataclass(frozen=True, slots=True)
class ScenarioState:
    """One scenario with its lanes."""

    scenario: Scenario
    rhythm: str
    lanes: tuple[LaneState, ...]


@dataclass(frozen=True, slots=True)
class ObserverState:
    """One account: why it is blind (empty while it sees) and since when, by how long it lags behind (seconds), and
    which process (empty: none) on which host reads it by a lease."""

    name: str
    blind: str
    since: float | None
    trouble: str
    channels: tuple[tuple[str, float | None], ...]
    holder: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """The deliveries of one probe that failed: channel, word, latency, reason."""

    probe: str
    scenario: str
    planned: float
    rows: tuple[tuple[str, str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What one probe still waits for, since ``planned`` (wall seconds); ``late`` are channels past their deadline."""

    probe: str
    scenario: str
    planned: float
    within: float
    give_up: float
    channels: tuple[str, ...]
    late: tuple[str, ...]


def scenario_states(
    seen: Glance, scenarios: Iterable[Scenario], channels: Mapping[str, Sequence[Channel]]
) -> tuple[ScenarioState, ...]:
    """Every configured scenario on every channel of its."""
    blind = _blind_channels(seen, channels)
    return tuple(
        ScenarioState(
            scenario,
            _rhythm(scenario),
            tuple(_lane(seen, scenario, channel, channel.name in blind) for channel in channels[scenario.name]),
        )
        for scenario in scenarios
    )


def _blind_channels(seen: Glance, channels: Mapping[str, Sequence[Channel]]) -> set[str]:
    accounts = {row.name for row in seen.observers if row.blind_reason}
    alone = {row.identity for row in seen.coverage if row.blind_reason}
    every = (channel for mine in channels.values() for channel in mine)
    return {channel.name for channel in every if channel.observer in accounts or channel.identity in alone}


def _rhythm(scenario: Scenario) -> str:
    schedule = scenario.schedule
    if schedule.every is not None:
        return f"every {format_duration(schedule.every)}"
    return f"at {schedule.cron} {schedule.time_zone}" if schedule.cron is not None else "on demand"


def _lane(seen: Glance, scenario: Scenario, channel: Channel, blind: bool) -> LaneState:
    rows = seen.recent.get((scenario.name, channel.name), ())
    told = [(row, *word_of(row)) for row in reversed(rows)]
    told = [(row, result, word) for row, result, word in told if word != OPEN]
    state, word, run = (BLIND, BLIND, 0) if blind else (WAITING, WAITING, 0)
    if told and not blind:
        state, word = told[0][1].value, told[0][2].replace("_", " ")
        run = sum(1 for _ in takewhile(lambda each: each[2] == told[0][2], told))
    latest = told[0][0] if told else None
    judged = [result for _, result, _ in told if result is not Result.VOID]
    return LaneState(
        channel,
        state,
        word,
        run,
        latency_of(latest) if latest is not None else "",
        latest.probe_id if latest is not None else "",
        latest.planned_wall if latest is not None else None,
        judged.count(Result.PASS),
        len(judged),
        seen.open_now.get((scenario.name, channel.name), 0),
        plot(rows, scenario.within),
    )


def headline(states: Sequence[ScenarioState]) -> tuple[str, str, str]:
    """Tone, a word, and a sentence about all lanes: the worst first."""
    lanes = [lane for state in states for lane in state.lanes]
    total = len(lanes)
    for state, badge, verb in (
        (Result.FAIL.value, "failing", "broke the promise the last time"),
        (BLIND, "blind", "cannot be seen by us now"),
        (Result.VOID.value, "void", "could not be judged the last time"),
        (Result.INCONCLUSIVE.value, "uncertain", "came so near to the deadline that nobody can say on which side"),
    ):
        names = [f"{state_.scenario.name} on {lane.channel.name}"
                 for state_ in states for lane in state_.lanes if lane.state == state]  # fmt: skip
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            return TONES[state], badge, f"{len(names)} of {total} {verb}: {', '.join(names[:4])}{more}."
    waiting = sum(lane.state == WAITING for lane in lanes)
    if waiting == total:
        return TONES[WAITING], "waiting", "No probe has a result yet."
    rest = f"; {waiting} {'has' if waiting == 1 else 'have'} no result yet" if waiting else ""
    kept = f"All {total}" if not waiting else f"{total - waiting} of {total}"
    return TONES[Result.PASS.value], "all well", f"{kept} kept the promise the last time{rest}."


def observer_states(seen: Glance, channels: Iterable[Channel]) -> tuple[ObserverState, ...]:
    """The accounts of these channels by name, and until when (wall seconds) each channel was read completely."""
    rows = {row.name: row for row in seen.observers}
    covered = {row.identity: row for row in seen.coverage}
    found = []
    every = {channel.name: channel for channel in channels}.values()
    for name, mine in groupby(sorted(every, key=lambda each: (each.observer, each.name)), lambda each: each.observer):
        places = tuple(mine)
        row, lease = rows.get(name), seen.leases.get(name)
        alone = [f"{place.name}: {found_.blind_reason}, {found_.blind_detail}" for place in places
                 if (found_ := covered.get(place.identity)) is not None and found_.blind_reason]  # fmt: skip
        whole = f"{row.blind_reason}: {row.blind_detail}" if row is not None and row.blind_reason else ""
        found.append(
            ObserverState(
                name,
                "; ".join([whole] if whole else alone),
                row.blind_since_wall if row is not None and whole else None,
                row.trouble if row is not None else "",
                tuple((place.name, _watermark(covered.get(place.identity))) for place in places),
                lease.holder if lease is not None else "",
                lease.host if lease is not None and lease.holder else "",
            )
        )
    return tuple(sorted(found, key=lambda each: (not each.blind, each.name)))


def _watermark(row: Row[Any] | None) -> float | None:
    return None if row is None else row.watermark_wall


def _by_probe(rows: Iterable[Row[Any]]) -> Iterable[tuple[str, list[Row[Any]]]]:
    found: dict[str, list[Row[Any]]] = {}
    for row in rows:
        found.setdefault(row.probe_id, []).append(row)
    return found.items()


def failures(seen: Glance) -> tuple[Failure, ...]:
    """What failed last, one for each probe, newest first."""
    return tuple(
        Failure(
            probe,
            rows[0].scenario,
            rows[0].planned_wall,
            tuple(
                (row.channel, word_of(row)[1].replace("_", " "), latency_of(row), _reason(row))
                for row in sorted(rows, key=lambda row: str(row.channel))
            ),
        )
        for probe, rows in _by_probe(seen.failures)
    )


def _reason(row: Row[Any]) -> str:
    told_by_outcome = row.outcome is not None and row.outcome != Outcome.DELIVERED.value
    return str((row.outcome_reason if told_by_outcome else "") or row.timeliness_reason)


def waiting(seen: Glance) -> tuple[Waiting, ...]:
    """What is in flight, the oldest of it."""
    return tuple(
        Waiting(
            probe,
            rows[0].scenario,
            rows[0].planned_wall,
            rows[0].within,
            rows[0].give_up,
            tuple(row.channel for row in rows if row.timeliness != Timeliness.OVERDUE.value),
            tuple(row.channel for row in rows if row.timeliness == Timeliness.OVERDUE.value),
        )
        for probe, rows in _by_probe(seen.oldest_open)
    )
