"""The world as pure logic: orders, priorities, statuses, copies, and what a message carries."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable
from dataclasses import replace
from email.message import EmailMessage
from uuid import UUID

import pytest

from prober.model import ChannelKind, Content, PublicationKind
from prober.sandbox import letters
from prober.sandbox.climate import Climate
from prober.sandbox.manual_clock import ManualClock
from prober.sandbox.records import (
    DeliveryFailed,
    Order,
    Outgoing,
    Rejected,
    Subscriber,
    TargetChannel,
    standard_places,
    template_id,
)
from prober.sandbox.weather import parse_weather
from prober.sandbox.world import World

CONTENT_ID = "3f0c1a52-6a57-4a5e-9d5e-0a1b2c3d4e5f"
CONTENTS = (
    Content("alert", "delivery-probe-alert", "An alert", "Nothing burns."),
    Content("newsletter", "delivery-probe-newsletter", "A letter", "Nothing is new."),
)
NEWSLETTER, ALERT, MANUAL = PublicationKind.NEWSLETTER, PublicationKind.ALERT, PublicationKind.MANUAL


class Village:
    """A world whose outlet writes down what is delivered; ``closed`` makes a delivery fail."""

    def __init__(self, weather: str = "seed: 1", workers: int = 8) -> None:
        self.clock = ManualClock()
        self.delivered: list[tuple[float, Outgoing]] = []
        self.closed: Callable[[Outgoing], DeliveryFailed | None] = lambda message: None
        self.carry = 0.0
        places = standard_places("w0rld", self.clock.now().wall)
        kinds = {place.name: place.kind for place in places}
        names = {place.address: place.name for place in places}
        self.ids = {place.name: place.target_channel for place in places}
        self.addresses = {place.name: place.address for place in places}
        climate = Climate(parse_weather(weather), self.clock, kinds, names)
        self.start = self.clock.now()
        self.world = World(
            "w0rld",
            places=places,
            contents=CONTENTS,
            climate=climate,
            clock=self.clock,
            outlet=self,
            workers=workers,
        )

    async def deliver(self, message: Outgoing) -> None:
        await self.clock.sleep(self.carry)
        failure = self.closed(message)
        if failure is not None:
            raise failure
        self.delivered.append((self.clock.now().since(self.start), message))

    def order(self, kind: PublicationKind, *names: str, after: float | None = None, template: str = "") -> Order:
        scheduled = None if after is None else self.clock.now().wall + after
        channels = tuple(self.ids[name] for name in names)
        return Order(kind, channels, (CONTENT_ID,), scheduled, template_id(template) if template else "", "critical")

    @property
    def places(self) -> list[str]:
        return [message.place for _, message in self.delivered]


async def test_an_order_goes_to_every_channel_and_ends_completed() -> None:
    """One message for each recipient of each channel; the status says processing, then completed."""
    village = Village()
    async with village.world as world:
        record = world.create(village.order(ALERT, "email", "email-2", "slack", "discord"))
        assert record.status == "processing"
        await village.clock.advance(5)
        assert sorted(village.places) == ["discord", "email", "email-2", "slack"]
        assert record.status == "completed"
        assert {result.status for result in record.results.values()} == {"success"}


async def test_a_lost_message_is_called_delivered() -> None:
    """The system believes a lost message to be delivered: its word proves nothing."""
    village = Village("channels: {slack: {loss: 1}}")
    async with village.world as world:
        record = world.create(village.order(ALERT, "slack"))
        await village.clock.advance(5)
        assert (village.delivered, record.status) == ([], "completed")


async def test_a_channel_that_does_not_exist_or_is_not_active_is_rejected() -> None:
    """Nothing is created for an unknown or an inactive channel."""
    village = Village()
    async with village.world as world:
        world.channels[village.ids["slack"]].is_active = False
        for order in (Order(ALERT, (CONTENT_ID,)), village.order(ALERT, "slack")):
            with pytest.raises(Rejected) as caught:
                world.create(order)
            assert caught.value.status == 400
        assert not world.records


async def test_a_time_that_is_past_is_rejected_on_the_systems_own_clock() -> None:
    """The scheduled time must lie in the future of the server's clock, which may be wrong."""
    village = Village("api: {clock: 30s}")
    async with village.world as world:
        with pytest.raises(Rejected, match="future"):
            world.create(village.order(NEWSLETTER, "email", after=20))
        assert world.create(village.order(NEWSLETTER, "email", after=40)).status == "scheduled"


async def test_alerts_go_before_scheduled_content() -> None:
    """When one worker has a queue, an alert that comes last goes before the newsletters that wait."""
    village = Village("channels: {email: {latency: 0s}}", workers=1)
    village.carry = 1.0
    async with village.world as world:
        for _ in range(5):
            world.create(village.order(NEWSLETTER, "email", after=1))
        await village.clock.advance(1.5)
        world.create(village.order(ALERT, "email"))
        await village.clock.advance(20)
        kinds = [message.publication_kind for _, message in village.delivered]
        assert kinds == [NEWSLETTER, ALERT, *[NEWSLETTER] * 4]


async def test_a_reschedule_moves_the_one_message() -> None:
    """A publication that is put off comes once, at its new time."""
    village = Village("channels: {email: {latency: 0s}}")
    async with village.world as world:
        record = world.create(village.order(NEWSLETTER, "email", after=10))
        world.reschedule(record.id, village.clock.now().wall + 30)
        await village.clock.advance(100)
        assert [round(at) for at, _ in village.delivered] == [30]
        with pytest.raises(Rejected) as caught:
            world.cancel(record.id)
        assert caught.value.status == 409


async def test_only_what_failed_can_be_retried() -> None:
    """A provider's final no fails the publication; its retry goes out five minutes later."""
    village = Village("channels: {slack: {latency: 0s}}")
    village.closed = lambda message: DeliveryFailed("channel_not_found", passing=False)
    async with village.world as world:
        record = world.create(village.order(ALERT, "slack"))
        await village.clock.advance(1)
        assert (record.status, record.error) == ("failed", "channel_not_found")
        village.closed = lambda message: None
        world.retry(record.id)
        await village.clock.advance(299)
        assert not village.delivered
        await village.clock.advance(5)
        assert len(village.delivered) == 1
        assert record.status == "completed"
        with pytest.raises(Rejected):
            world.retry(record.id)


async def test_a_passing_failure_is_tried_again_until_it_passes() -> None:
    """While a provider is down messages wait; each comes once soon after it is back."""
    village = Village("channels: {slack: {latency: 0s}}")
    village.closed = lambda message: DeliveryFailed("down", passing=True)
    async with village.world as world:
        for _ in range(3):
            world.create(village.order(ALERT, "slack"))
        await village.clock.advance(60)
        village.closed = lambda message: None
        await village.clock.advance(2)
        assert len(village.delivered) == 3
        await village.clock.advance(100)
        assert len(village.delivered) == 3


async def test_copies_come_too_and_are_the_same_message() -> None:
    """A copy has the publication and the provider's message id of the first."""
    village = Village("channels: {email: {copies: 1}}")
    async with village.world as world:
        world.create(village.order(ALERT, "email"))
        await village.clock.advance(5)
        assert len(village.delivered) == 2
        assert len({message.message_id for _, message in village.delivered}) == 1


async def test_an_overtaken_message_comes_after_the_next_or_after_five_seconds() -> None:
    """Reordering lets the next message pass; without a next one the message comes all the same."""
    village = Village("channels: {slack: {reorder: 1, latency: 1s}}")
    async with village.world as world:
        first = world.create(village.order(ALERT, "slack"))
        await village.clock.advance(10)
        assert [round(at) for at, _ in village.delivered] == [6]
        world.climate.set_weather(parse_weather("channels: {slack: {latency: 1s}}"))
        world.create(village.order(ALERT, "slack"))
        await village.clock.advance(10)
        assert [message.publication_id == first.id for _, message in village.delivered] == [True, False]


async def test_the_next_message_passes_an_overtaken_one() -> None:
    """The overtaken message is delivered right after the one that passed it."""
    village = Village("channels: {slack: {reorder: 1, latency: 1s}}")
    async with village.world as world:
        first = world.create(village.order(ALERT, "slack"))
        await village.clock.advance(2)
        world.climate.set_weather(parse_weather("channels: {slack: {latency: 1s}}"))
        second = world.create(village.order(ALERT, "slack"))
        await village.clock.advance(1.5)
        assert [message.publication_id for _, message in village.delivered] == [second.id, first.id]


async def test_what_the_weather_decides_is_what_arrives() -> None:
    """Over many orders exactly the messages that the dice let through arrive, each as often as they say."""
    text = "{seed: 3, channels: {slack: {loss: 0.3, copies: 0.3, reorder: 0.3, delay: {share: 0.2, by: [1s, 60s]}}}}"
    village, same = Village(text), Village(text)
    async with village.world as world:
        for _ in range(300):
            world.create(village.order(ALERT, "slack"))
        await village.clock.advance(200)
        fates = [same.world.climate.fate("slack", ChannelKind.SLACK) for _ in range(300)]
        assert len(village.delivered) == sum(len(fate.latencies) for fate in fates)
        assert len({message.publication_id for _, message in village.delivered}) == sum(not fate.lost for fate in fates)
        assert world.waiting == 0


async def test_a_paused_subscriber_gets_nothing_and_a_new_one_gets_mail() -> None:
    """Mail goes to the active subscribers of the channel."""
    village = Village()
    async with village.world as world:
        channel = village.ids["email"]
        (old,) = [one for one in world.subscribers.values() if channel in one.preferred_channels]
        old.status = "paused"
        world.add_subscriber(Subscriber("new", "new@w0rld.sandbox.example", (channel,)))
        world.create(village.order(NEWSLETTER, "email"))
        await village.clock.advance(5)
        assert [message.address for _, message in village.delivered] == ["new@w0rld.sandbox.example"]


async def test_names_and_addresses_are_taken_once() -> None:
    """A second channel of a name and a second subscriber of an address are a conflict."""
    village = Village()
    world = village.world
    with pytest.raises(Rejected) as caught:
        world.add_channel(TargetChannel("x", "prober-slack", "slack", {}))
    assert caught.value.status == 409
    with pytest.raises(Rejected) as caught:
        world.add_subscriber(Subscriber("x", village.addresses["email"].upper(), ()))
    assert caught.value.status == 409


@pytest.mark.parametrize(
    ("kind", "template", "text"),
    [
        (MANUAL, "delivery-probe-alert", "Nothing burns."),
        (ALERT, "", "Nothing burns."),
        (NEWSLETTER, "no-such-template", "Nothing is new."),
        (MANUAL, "", letters.GENERIC_TEXT),
    ],
)
async def test_the_text_is_the_templates(kind: PublicationKind, template: str, text: str) -> None:
    """A known template gives its text; without one the kind's own content serves, else a generic text."""
    village = Village()
    async with village.world as world:
        world.create(village.order(kind, "email", template=template))
        await village.clock.advance(5)
        assert village.delivered[0][1].text == text


def test_template_ids_are_what_the_api_accepts() -> None:
    """A template's id follows from its name and has version 4's form."""
    assert UUID(template_id("a")).version == 4
    assert template_id("a") == template_id("a") != template_id("b")


async def test_a_record_that_is_old_is_forgotten_and_the_rest_stays() -> None:
    """The world's memory is bounded, so it can run for months."""
    village = Village()
    async with village.world as world:
        first = world.create(village.order(ALERT, "slack"))
        for _ in range(20_000):
            world.records[str(len(world.records))] = first
        world.create(village.order(ALERT, "slack"))
        assert first.id not in world.records
        assert len(world.records) == 20_000


LETTER = Outgoing(
    place="email",
    kind=ChannelKind.EMAIL,
    address="inbox-1+tag@w0rld.sandbox.example",
    target_channel="t",
    publication_id="9b2f9a40-5a0e-4d3f-8b9c-0d1e2f3a4b5c",
    publication_kind=NEWSLETTER,
    content_ids=(CONTENT_ID,),
    subject="Ein Brief für Sie: Grüße",
    text="Nothing is new & <nothing> burns.",
    message_id="0100abc",
)


def parsed(raw: bytes) -> EmailMessage:
    return email.message_from_bytes(raw, _class=EmailMessage, policy=email.policy.default)


def test_a_mail_carries_its_keys_as_the_real_ones_do() -> None:
    """Quoted-printable text and HTML, an SES message id, tracked links, one-click unsubscribe."""
    mail = parsed(letters.mail(LETTER, "news@w0rld.sandbox.example", 1_790_000_000.0))
    assert mail["Message-ID"] == "<0100abc@email.amazonses.com>"
    assert mail["To"] == "inbox-1+tag@w0rld.sandbox.example"
    assert mail["Subject"] == "Ein Brief für Sie: Grüße"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert letters.JUNK_HEADER not in mail
    text, markup = mail.iter_parts()
    assert [part["Content-Transfer-Encoding"] for part in (text, markup)] == ["quoted-printable"] * 2
    assert f"publication_id={LETTER.publication_id}&url=" in text.get_content()
    assert f"publication_id={LETTER.publication_id}&amp;url=" in markup.get_content()
    for part in (text, markup):
        assert CONTENT_ID in part.get_content()
    assert "Nothing is new & <nothing> burns." in text.get_content()


def test_only_newsletters_can_be_unsubscribed_and_only_junk_asks_for_its_folder() -> None:
    """An alert has no unsubscribe link; a mail that the weather calls junk says so to the mail server."""
    mail = parsed(letters.mail(replace(LETTER, publication_kind=ALERT, junk=True), "n@x.example", 0.0))
    assert "List-Unsubscribe" not in mail
    assert mail[letters.JUNK_HEADER] == "Junk"


def test_a_damaged_message_keeps_its_keys_and_loses_its_text() -> None:
    """Damage is an unrendered template: the publication is still recognised, the content check fails."""
    damaged = replace(LETTER, damaged=True)
    for text in (letters.plain_text(damaged), str(letters.slack(damaged)), str(letters.discord(damaged))):
        assert "Nothing is new" not in text
        assert letters.UNRENDERED in text
        assert CONTENT_ID in text


def test_slack_and_discord_carry_text_and_links() -> None:
    """Slack's text is escaped and stands in blocks; Discord's stands in an embed."""
    text, blocks = letters.slack(LETTER)
    assert "&lt;nothing&gt;" in text
    assert CONTENT_ID in str(blocks)
    content, embeds = letters.discord(LETTER)
    assert content == "Ein Brief für Sie: Grüße"
    assert "Nothing is new & <nothing> burns." in embeds[0]["description"]
    assert LETTER.publication_id in embeds[0]["footer"]["text"]
