"""What a stranger's review of the correlation found: each property failed once."""

from __future__ import annotations

from prober.clock import Instant
from prober.correlate import DeliveryFacts, Offset, SightingFact, StepFact, correlate
from prober.interval import Interval
from prober.model import Arrive, How, PublishResult, Stamp, StepState

BOOT = Instant(10_000.0, 100.0, "boot")


def facts(step: StepFact, sighting: SightingFact, offset: float) -> DeliveryFacts:
    bounds = Interval(offset - 0.001, offset + 0.001, "provider")
    return DeliveryFacts(
        within=4.0, give_up=60.0, arrive=Arrive.ALWAYS, scheduled_time=None, step=step, stop=None, sighting=sighting,
        seen_elsewhere=False, coverage=None, failed_read=None, served=True,
        offsets={"provider": Offset(bounds, "boot", BOOT.boottime)},
    )  # fmt: skip


def test_provider_stamp_knows_no_more_of_a_lost_request_than_we_do() -> None:
    """After a crash the request's instant is an interval: a provider's stamp does not make it a point."""
    step = StepFact(0, StepState.ANSWERED, PublishResult.INTERRUPTED, BOOT, None, BOOT.plus(3.0))
    seen = SightingFact(BOOT, BOOT.plus(9.0), How.HISTORY, False, (), Stamp(10_105.0, 0.001, "provider"))
    found = correlate(facts(step, seen, 10_000.0), BOOT.plus(20))
    assert found is not None
    assert found.case.sighted is not None
    assert not found.contradiction
    latency = found.case.sighted.latency
    # Requested between 0 and 3, visible at 5.
    assert latency.lower <= 2.0
    assert latency.upper >= 5.0


def test_message_seen_before_its_request_is_an_alarm() -> None:
    """A message seen before its request left contradicts our own facts: told, not cut to zero in silence."""
    step = StepFact(0, StepState.ANSWERED, PublishResult.ACCEPTED, BOOT, BOOT, BOOT.plus(1.0))
    seen = SightingFact(None, BOOT.plus(-5.0), How.PUSH, False, (), None)
    found = correlate(facts(step, seen, 0.0), BOOT.plus(20))
    assert found is not None
    assert found.contradiction == "request"
