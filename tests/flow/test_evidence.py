"""What is on record about one probe, as the timeline of ``prober show`` tells it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prober.ledger import reading
from prober.report.evidence import timeline
from prober.report.timeline import Event
from tests.flow.rig import Life, Rig


async def events(tmp_path: Path, weather: str, seconds: float) -> list[Event]:
    """The timeline of one probe in this weather, ``seconds`` after its launch."""
    rig = Rig(tmp_path, weather)
    async with rig.world_turning(), rig.life() as life:
        (name,) = await life.launch(1)
        await rig.clock.advance(seconds)
        task = asyncio.ensure_future(_events(life, name))
        await rig.clock.advance(0)
        return await task


async def _events(life: Life, name: str) -> list[Event]:
    read = life.flow.ledger.read
    (record,) = await read(reading.probe_records, [name])
    covered = await read(reading.coverage_rows, record.probe.location)
    observers = await read(reading.observer_rows, record.probe.location)
    return list(timeline(record, covered, observers).sorted())


async def test_the_timeline_tells_everything_on_record(tmp_path: Path) -> None:
    """Planning, each instant of each step, each sighting with its interval, both verdicts: each stands there once."""
    found = await events(tmp_path, "seed: 1", 200)
    said = [(event.what, event.channel) for event in found]
    for what in ("planned", "create taken", "create requested", "create ended"):
        assert said.count((what, "")) == 1
    for channel in ("email", "slack", "discord"):
        for what in ("sighting", "timeliness", "outcome", "watermark"):
            assert said.count((what, channel)) == 1
    assert [event.at for event in found] == sorted(event.at for event in found)
    (requested,) = [event for event in found if event.what == "create requested"]
    assert requested.offset == 0


async def test_an_interval_bounds_a_sighting_and_nothing_else(tmp_path: Path) -> None:
    """A sighting has bounds; a span of coverage is told by its two ends, each an instant of its own."""
    found = await events(tmp_path, "seed: 1", 200)
    for event in found:
        assert (event.lower is not None) == (event.what == "sighting")
    since = {event.channel: event.at for event in found if event.what == "coverage"}
    watermark = {event.channel: event.at for event in found if event.what == "watermark"}
    assert set(watermark) == {"email", "slack", "discord"}
    assert all(since[channel] < watermark[channel] for channel in since)


async def test_a_verdict_stands_in_the_timeline_with_its_reason(tmp_path: Path) -> None:
    """What was lost is overdue at the deadline and lost at the horizon, and both lines say why."""
    found = await events(tmp_path, "{seed: 1, channels: {slack: {loss: 1.0}}}", 200)
    assert [(event.what, event.detail) for event in found if event.channel == "slack" and ":" in event.detail] == [
        ("timeliness", "overdue: not visible at the deadline"),
        ("outcome", "lost: not visible at the horizon"),
    ]


async def test_blindness_stands_in_the_timeline_of_each_channel(tmp_path: Path) -> None:
    """While an observer cannot see, the timeline of its channel says since when and why, and no other's does."""
    found = await events(tmp_path, "{seed: 1, channels: {slack: {logins: refused}}}", 20)
    (blind,) = [event for event in found if event.what == "blind"]
    assert blind.channel == "slack"
    assert blind.detail.startswith("login_refused: ")
