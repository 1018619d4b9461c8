"""Settings, scenarios -> what recurs in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prober.assembly import drafting
from prober.clock import Clock
from prober.config import Settings
from prober.draft import draft_probe
from prober.ledger.planning import PlannedProbe
from prober.ledger.slots import Timetable
from prober.model import Channel, Scenario
from prober.schedule import offset_for


def timetable(
    settings: Settings,
    scenarios: Sequence[Scenario],
    channels: Mapping[str, tuple[Channel, ...]],
    clock: Clock,
    *,
    newest_only: bool = False,
) -> Timetable:
    """What recurs, on the channels of each scenario: those without a schedule are left out.

    ``newest_only`` is for processes that come and go: no stagger, and only the newest slot of each. Raises
    ConfigurationError.
    """
    shared = drafting(settings)
    recurring = tuple(s for s in scenarios if s.schedule.every is not None or s.schedule.cron is not None)

    def draft(scenario: Scenario, slot: float, late_after: float) -> PlannedProbe:
        now = clock.now()
        return draft_probe(shared, scenario, channels[scenario.name], slot=slot, now=now, late_after=late_after)

    offsets = {
        s.name: offset_for(s.name, settings.location, s.schedule.every)
        for s in recurring
        if s.schedule.every is not None and not newest_only
    }
    limits = settings.limits
    return Timetable(recurring, offsets, limits.limits, draft, newest_only, limits.kill_switch)
