"""Whether pushes that should have come have come: a second consumer takes some, a loss now and then is none."""

from __future__ import annotations

from prober.clock import Instant
from prober.observers.slack_pushes import PushRecord

START = Instant(1_000_000.0, 500.0, "boot")


def shown(record: PushRecord, names: range, *, pushed: bool = False) -> None:
    for number in names:
        record.shown(("C1", str(number)), START)
        if pushed:
            record.pushed(("C1", str(number)))


def test_messages_that_are_never_pushed_name_a_second_consumer() -> None:
    """Three of six that reads have shown and nobody has pushed are said, with the mend, once their time is over."""
    record = PushRecord()
    shown(record, range(3), pushed=True)
    shown(record, range(3, 6))
    assert record.trouble(START.plus(9.9)) == ""
    said = record.trouble(START.plus(10))
    assert said.startswith("3 of the last 6 messages were never pushed")
    assert "give each prober its own app" in said


def test_a_push_that_follows_its_read_is_no_loss() -> None:
    """A read may be faster than the push of the same message."""
    record = PushRecord()
    shown(record, range(6))
    for number in range(6):
        record.pushed(("C1", str(number)))
    assert record.trouble(START.plus(60)) == ""


def test_a_loss_now_and_then_is_no_consumer() -> None:
    """Two of twenty, and three of twenty, are not systematic."""
    record = PushRecord()
    shown(record, range(17), pushed=True)
    shown(record, range(17, 20))
    assert record.trouble(START.plus(60)) == ""


def test_what_came_while_the_connection_was_down_says_nothing() -> None:
    """After a loss nothing is expected to be pushed that reads have shown."""
    record = PushRecord()
    shown(record, range(6))
    record.interrupted()
    assert record.trouble(START.plus(60)) == ""


def test_trouble_ends_when_pushes_flow_again() -> None:
    """The latest twenty count."""
    record = PushRecord()
    shown(record, range(6))
    assert record.trouble(START.plus(60))
    shown(record, range(100, 120), pushed=True)
    assert record.trouble(START.plus(120)) == ""
