"""Is it safe to publish there? By name, kind, place and subscribers, as far as the target tells."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prober.findings import Finding, State
from prober.model import Channel, ChannelKind
from prober.safety import (
    Bounds,
    Inventory,
    TargetChannel,
    TargetSubscriber,
    breaches,
    examine_safety,
    fold_address,
    unverified,
)

MAIL, CHAT = "11111111-aaaa-4111-8111-111111111111", "22222222-aaaa-4222-8222-222222222222"
EMAIL = Channel("email", ChannelKind.EMAIL, "box", "probe+tag@inbox.example", target_channel=MAIL.upper())
SLACK = Channel("slack", ChannelKind.SLACK, "slack", "C1", target_channel=CHAT)
BOUNDS = Bounds((MAIL, CHAT), "prober-", (EMAIL, SLACK))
OURS = TargetSubscriber("s-1", "Probe@Inbox.example", frozenset({MAIL}))
CHANNELS = (TargetChannel(MAIL, "prober-mail", "email"), TargetChannel(CHAT, "prober-chat", "slack", place="C1"))
WELL = Inventory(CHANNELS, (OURS,))
READER = TargetSubscriber("s-2", "reader@people.example", frozenset({MAIL}))


def changed(number: int, **fields: object) -> Inventory:
    channels = [replace(each, **fields) if at == number else each for at, each in enumerate(CHANNELS)]  # type: ignore[arg-type]
    return replace(WELL, channels=tuple(channels))


def troubles(found: tuple[Finding, ...]) -> list[tuple[str, State]]:
    return [(one.subject, one.state) for one in found if one.state is not State.OK]


def test_a_target_that_is_ours_alone_is_safe() -> None:
    """With our names, kinds, places and subscribers nothing is breached, and check says so in two lines."""
    assert breaches(BOUNDS, WELL) == ()
    found = examine_safety(BOUNDS, WELL)
    assert [(one.subject, one.state) for one in found] == [("allow-list", State.OK), ("subscribers", State.OK)]


@pytest.mark.parametrize(
    ("inventory", "subject", "words"),
    [
        (changed(0, name="news"), "allow-list", "'news'"),
        (changed(0, name="Prober-mail"), "allow-list", "'Prober-mail'"),
        (changed(0, kind="sms"), "allow-list", "of kind sms"),
        (changed(1, place="C2"), "allow-list", "posts to C2"),
        (replace(WELL, channels=CHANNELS[:1]), "allow-list", f"no channel {CHAT} (channel slack)"),
        (replace(WELL, channels=()), "allow-list", "no channel"),
        (replace(WELL, subscribers=(OURS, READER)), "subscribers", "s-2"),
        (replace(WELL, subscribers=(OURS, replace(READER, email=""))), "subscribers", "s-2"),
        (replace(WELL, subscribers=(OURS, replace(READER, email="probe@inbox.example.org"))), "subscribers", "s-2"),
    ],
)
def test_each_breach_keeps_from_publishing(inventory: Inventory, subject: str, words: str) -> None:
    """A foreign name, kind or place, a channel that is not there and a stranger's address are each a breach."""
    found = breaches(BOUNDS, inventory)
    assert found
    assert {(one.subject, one.state) for one in found} == {(subject, State.WRONG)}
    assert words in found[0].sentence
    assert all(one.mend for one in found)
    assert "people.example" not in str(found)
    assert set(found) <= set(examine_safety(BOUNDS, inventory))


def test_a_channel_that_only_feeds_ours_is_verified_too() -> None:
    """An id that is in no allow-list, but named as a channel's target_channel, could be published to as well."""
    bounds = replace(BOUNDS, allowed=(MAIL,))
    assert bounds.ids == (MAIL, CHAT)
    assert breaches(bounds, changed(1, name="general"))


def test_other_channels_of_the_target_are_its_own() -> None:
    """What we could never publish to may be called anything and be read by anybody."""
    other = TargetChannel("33333333-aaaa-4333-8333-333333333333", "news", "email")
    reader = replace(READER, channels=frozenset({other.id}))
    assert breaches(BOUNDS, Inventory((*CHANNELS, other), (OURS, reader))) == ()


@pytest.mark.parametrize("status", ["unsubscribed", "bounced", "pending", ""])
def test_a_stranger_who_gets_nothing_is_worth_a_look(status: str) -> None:
    """Somebody who is not active breaches nothing now, and is warned of before they come back."""
    inventory = replace(WELL, subscribers=(OURS, replace(READER, status=status)))
    assert breaches(BOUNDS, inventory) == ()
    assert troubles(examine_safety(BOUNDS, inventory)) == [("subscribers", State.WARNING)]


@pytest.mark.parametrize(
    ("inventory", "lacking"),
    [(Inventory(), "channels and subscribers"), (replace(WELL, channels=None), "channels"),
     (replace(WELL, subscribers=None), "subscribers")],
)  # fmt: skip
def test_what_is_not_listed_is_told(inventory: Inventory, lacking: str) -> None:
    """A target that does not list is not breached by silence, and what is unverified is said, without counting."""
    assert unverified(inventory).startswith(f"{lacking} unverified: ")
    assert breaches(BOUNDS, inventory) == ()
    (found,) = [one for one in examine_safety(BOUNDS, inventory) if one.state is not State.OK]
    assert (found.state, found.mend) == (State.UNKNOWN, "")
    assert unverified(WELL) == ""


def test_what_will_not_work_is_wrong_but_no_breach() -> None:
    """A sleeping channel, a mailbox that nobody subscribed and an empty allow-list are told by check alone."""
    for bounds, inventory, subject in (
        (BOUNDS, changed(0, active=False), "allow-list"),
        (BOUNDS, replace(WELL, subscribers=()), "subscribers"),
        (BOUNDS, replace(WELL, subscribers=(replace(OURS, status="unsubscribed"),)), "subscribers"),
        (Bounds((), "prober-", ()), Inventory((), ()), "allow-list"),
    ):
        assert breaches(bounds, inventory) == ()
        assert troubles(examine_safety(bounds, inventory)) == [(subject, State.WRONG)]
    unsubscribed = replace(WELL, subscribers=())
    assert troubles(examine_safety(replace(BOUNDS, by_subscription=False), unsubscribed)) == []


def test_a_channel_that_nothing_feeds_is_warned_of() -> None:
    """Without target_channel nothing can be published to a channel: worth a look, with its name."""
    bounds = replace(BOUNDS, channels=(EMAIL, SLACK, replace(SLACK, name="idle", target_channel="")))
    assert troubles(examine_safety(bounds, WELL)) == [("target channels", State.WARNING)]


@pytest.mark.parametrize(
    ("written", "folded"),
    [("Ada+x@B.example", "ada@b.example"), (" ada@b.example ", "ada@b.example"), ("a+b+c@d.e", "a@d.e"),
     ("ada", "ada"), ("", "")],
)  # fmt: skip
def test_addresses_are_compared_without_tag_and_case(written: str, folded: str) -> None:
    """A plus-tag and the case of letters make no other mailbox."""
    assert fold_address(written) == folded


def test_what_a_target_says_is_bounded() -> None:
    """A name of any length is told shortened."""
    (found,) = breaches(BOUNDS, changed(0, name="x" * 10_000))
    assert len(found.sentence) < 300


def test_an_address_is_not_shown() -> None:
    """A subscriber's repr holds no address: it is a person's."""
    assert "people.example" not in repr(READER)
