"""What the model-based tests found, each as a plain example."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prober.marker import Found, Standing
from prober.model import KeyKind
from tests.flow.recount import rows
from tests.flow.test_model_ledger import LedgerMachine, template

__all__ = ["template"]


@pytest.fixture
def book(template: Callable[[Path], str]) -> Iterator[LedgerMachine]:
    """The machine, moved by hand; its invariants are looked at in the end."""
    machine = LedgerMachine()
    machine.open_ledger(template)
    for observer in machine.cursors:
        machine.read(observer, 0.0, continues=True, with_control=False)
    yield machine
    machine.holds()
    machine.teardown()


def verdicts(book: LedgerMachine) -> dict[str, tuple[str | None, str | None]]:
    """Channel -> both verdicts of the only probe, which are the reference's."""
    book.settle(None)
    return {row["channel"]: (row["timeliness"], row["outcome"]) for row in rows(book.beside, "deliveries")}


def reads(book: LedgerMachine, seconds: float) -> None:
    """So much later both observers read completely."""
    book.advance(seconds)
    for observer in book.cursors:
        book.read(observer, 0.0, continues=True, with_control=False)


def seen(book: LedgerMachine, channel: str, *, pushed: bool = True, folder: str = "INBOX/1") -> None:
    """A message of the only probe, known by its marker."""
    key = Found(KeyKind.MARKER, "m-p" + book.drafts[0].id[1:], Standing.GENUINE, book.now.wall)
    book.comes(channel, (key,), pushed, 0.0, folder=folder)


@pytest.mark.parametrize("kind", ["error", "timeout"])
def test_skipped_send_is_settled_by_the_clock_of_its_create(book: LedgerMachine, kind: str) -> None:
    """A sending step that was never requested has no origin of its own: its delivery does not stay open for ever."""
    book.plan(("mail",), "now", send=True, give_up=16.0)
    book.claim()
    book.fail(0, kind, 0.0)
    reads(book, 8.0)
    assert verdicts(book) == {"mail": ("moot", None)}
    reads(book, 8.0)
    assert verdicts(book) == {"mail": ("moot", "unanswered")}


def test_sighting_of_the_create_proves_no_send(book: LedgerMachine) -> None:
    """We died between claim and answer of a send: what Slack shows of the create does not make the mail lost."""
    book.plan(("mail", "slack"), "now", send=True, give_up=16.0)
    book.claim()
    book.answer(0, 0.0)
    book.claim()
    book.new_process(reboot=False)
    seen(book, "slack")
    reads(book, 8.0)
    reads(book, 8.0)
    assert verdicts(book) == {"mail": ("void", "void"), "slack": ("on_time", "delivered")}


def test_absence_after_a_crash_counts_from_the_last_moment_of_the_request(book: LedgerMachine) -> None:
    """A request that may have left as late as our death was noticed is not overdue by the claim's clock."""
    book.plan(("mail", "slack"), "now", send=False, give_up=16.0)
    book.claim()
    book.advance(6.0)
    book.new_process(reboot=False)
    seen(book, "slack")
    reads(book, 3.0)
    assert verdicts(book)["mail"] == (None, None)
    reads(book, 5.0)
    assert verdicts(book)["mail"] == ("overdue", None)
    reads(book, 8.0)
    assert verdicts(book)["mail"] == ("overdue", "lost")


def test_arrival_after_the_horizon_of_a_crash_counts_from_the_same_moment(book: LedgerMachine) -> None:
    """What the claim's clock calls after the horizon may be before it by the request's: it is a sighting, no stray."""
    book.plan(("mail",), "now", send=False, give_up=16.0)
    book.claim()
    book.advance(6.0)
    book.new_process(reboot=False)
    reads(book, 12.0)
    book.advance(1.0)
    seen(book, "mail")
    assert verdicts(book) == {"mail": ("overdue", "delivered")}


def test_stamp_of_a_crashed_request_narrows_no_more_than_is_known(book: LedgerMachine) -> None:
    """A provider's stamp says when the message came, not when the interrupted request left."""
    book.read("app", 0.0, continues=True, with_control=True)
    book.plan(("slack",), "now", send=False, give_up=16.0)
    book.claim()
    book.advance(8.0)
    book.new_process(reboot=False)
    book.advance(2.0)
    seen(book, "slack")
    assert verdicts(book) == {"slack": ("ambiguous", "delivered")}


def test_early_message_before_its_request_has_finite_bounds(book: LedgerMachine) -> None:
    """A read that contradicts a push of a scheduled message leaves the request as lower bound, not minus infinity."""
    book.plan(("mail",), "scheduled", send=False, give_up=16.0)
    book.claim()
    book.advance(4.0)
    book.answer(0, 4.0)
    reads(book, 1.0)
    key = Found(KeyKind.MARKER, "m-p" + book.drafts[0].id[1:], Standing.GENUINE, book.now.wall)
    book.comes("mail", (key,), pushed=True, ago=2.0)
    assert verdicts(book)["mail"][0] == "early"
    (row,) = rows(book.beside, "deliveries")
    assert row["latency_lower"] >= -12.0


def test_copy_that_is_moved_is_no_further_copy(book: LedgerMachine) -> None:
    """A mail sent twice is one copy, and moving either of the two makes no other."""
    book.plan(("mail",), "now", send=False, give_up=16.0)
    book.claim()
    book.answer(0, 0.0)
    seen(book, "mail")
    seen(book, "mail")
    first, second = (message for message, _ in book.history)
    for message in (second, first):
        book.comes("mail", book.history[0][1], True, 0.0, folder="Junk/1", print_of=message)
    (row,) = rows(book.beside, "deliveries")
    assert row["copies"] == 1


def test_mail_that_moves_before_its_key_is_known_is_one_mail(book: LedgerMachine) -> None:
    """Seen in two folders one after the other before the answer told its id: one delivery, no copy, no stray."""
    book.plan(("mail",), "now", send=False, give_up=16.0)
    book.claim()
    told = (Found(KeyKind.PUBLICATION_ID, f"u-{book.drafts[0].id}", Standing.UNSIGNED, None),)
    book.comes("mail", told, True, 0.0)
    book.comes("mail", told, True, 0.0, folder="Junk/1", print_of=book.history[0][0])
    book.answer(0, 0.0)
    assert verdicts(book) == {"mail": ("on_time", "delivered")}
    (row,) = rows(book.beside, "deliveries")
    assert row["copies"] == 0


def test_key_that_names_another_channel_ends_no_waiting(book: LedgerMachine) -> None:
    """A message that carries the key of another channel waits on, and is counted as unmatched in the end."""
    book.plan(("mail", "mail2"), "now", send=True, give_up=800.0)
    book.claim()
    book.answer(0, 0.0)
    book.claim()
    told = (Found(KeyKind.MESSAGE_ID, f"i-{book.drafts[0].id}-mail", Standing.UNSIGNED, None),)
    book.comes("mail2", told, True, 0.0)
    book.answer(0, 0.0)
    book.advance(601.0)
    book.settle(None)
    assert [row["stray"] for row in rows(book.beside, "sightings")] == ["unmatched"]


def test_answer_of_a_process_taken_for_dead_is_counted_once(book: LedgerMachine) -> None:
    """A step that was interrupted stays so when its answer comes after all: one result per step."""
    book.plan(("mail",), "now", send=False, give_up=16.0)
    book.claim()
    book.new_process(reboot=False)
    book.answer_of_the_dead(0)
    (row,) = rows(book.beside, "steps")
    assert row["result"] == "interrupted"


def test_stamp_is_bounded_by_the_clock_of_the_requests_boot(book: LedgerMachine) -> None:
    """After a reboot the provider's clock is compared with each boot by that boot's own exchanges."""
    book.read("app", 0.0, continues=True, with_control=True)
    book.plan(("slack",), "now", send=False, give_up=800.0)
    book.claim()
    book.answer(0, 0.0)
    book.advance(4.0)
    book.new_process(reboot=True)
    book.read("app", 0.0, continues=True, with_control=True)
    seen(book, "slack", pushed=False)
    book.read("app", 0.0, continues=True, with_control=False)
    book.settle(None)
    (row,) = rows(book.beside, "deliveries")
    assert "provider" in row["latency_basis"]
