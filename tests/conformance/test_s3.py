"""The S3 observer against moto over real sockets: nothing is missed, nothing is claimed that was not read."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from prober.acts import Act
from prober.clock import Instant, SystemClock
from prober.model import Channel, ChannelKind, How
from prober.observers import s3
from prober.observers.s3 import S3Observer
from prober.observers.s3_client import AwsClient, Listed
from tests.conformance.s3_world import ADA, CLOCK, INBOX, Bucket, mail, open_bucket, pushed, soon, subjects

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aws() -> AsyncIterator[Bucket]:
    async with open_bucket(secrets.token_hex(4)) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def bucket(aws: Bucket) -> AsyncIterator[Bucket]:
    """The bucket and its queues, empty."""
    await aws.clear()
    yield aws


async def test_a_notification_becomes_a_message(bucket: Bucket) -> None:
    """A mail is pushed whole, decoded, with S3's stamp and SES's waypoints; the next read returns the same."""
    async with bucket.observer() as observer:
        batch = await observer.read(None)
        key = await bucket.deliver("hello")
        (message,) = await pushed(observer)
        again = await observer.read(batch.cursor)
    (visible,) = bucket.truth
    assert (message.id, message.channel, message.how) == (key, "email-s3", How.PUSH)
    assert message.texts[0] == "hello"
    assert (message.sender, message.recipients) == ("news@target.example", (ADA,))
    assert message.seen.since(visible.before) >= 0
    assert message.stamp is not None
    assert (message.stamp.source, message.stamp.resolution) == ("s3", 1.0)
    assert abs(message.stamp.at - visible.before.wall) <= 2.0
    assert {point.name for point in message.waypoints} == {"ses_received", "ses_receipt", "s3_stored"}
    assert again.messages == (message,)
    assert again.readings["email-s3"].continues


async def test_pushes_are_quick(bucket: Bucket) -> None:
    """From visible to in our hands half the mails take less than 100 ms."""
    taken: list[float] = []
    async with bucket.observer() as observer:
        await observer.read(None)
        for number in range(20):
            await bucket.deliver(f"{number}")
            (message,) = await pushed(observer)
            taken.append(message.seen.since(bucket.truth[-1].after))
    assert sorted(taken)[10] < 0.1


async def test_what_was_there_before_is_not_read(bucket: Bucket) -> None:
    """Without a cursor the observer begins now, and says that it begins."""
    for number in range(5):
        await bucket.deliver(f"{number}")
    bucket.faults.late = None
    async with bucket.observer(queue_url=None) as observer:
        batch = await observer.read(None)
        assert batch.messages == ()
        assert not batch.readings["email-s3"].continues
        assert batch.readings["email-s3"].started.since(bucket.truth[-1].after) > 0
        await bucket.deliver("new")
        batch = await observer.read(batch.cursor)
        assert subjects(batch.messages) == ["new"]
        assert batch.readings["email-s3"].continues
        assert observer.poll == 5.0


async def test_a_late_notification_of_what_was_read_pushes_nothing(bucket: Bucket) -> None:
    """What a listing has found first is not fetched again when its notification comes, which is then deleted."""
    bucket.faults.late = None
    async with bucket.observer() as observer:
        batch = await observer.read(None)
        key = await bucket.deliver("first listed")
        batch = await observer.read(batch.cursor)
        assert [message.id for message in batch.messages] == [key]
        bucket.send(s3_event(bucket, key))
        bucket.faults.late = 0.0
        marker = await bucket.deliver("behind it")
        assert [message.id for message in await pushed(observer)] == [marker]
        await until(lambda: bucket.left() == 0)
        acts: list[Act] = []

        def told() -> bool:
            acts.extend(observer.acts.take(whole=True))
            return sum(act.number for act in acts) >= 2

        await until(told)
    assert {(act.kind, act.place, act.answer) for act in acts} == {("forget", observer.name, "deleted")}
    assert acts[0].subject == f"a notification of the queue {bucket.inner_queue_url.rsplit('/', 1)[-1]}"


async def test_mails_that_the_queue_does_not_tell_of_are_trouble(bucket: Bucket) -> None:
    """Who shares its queue with another consumer, or is told by no rule, hears of it; a late word takes it back."""
    clock = Skipping()
    bucket.faults.late = None
    async with S3Observer("ses", bucket.settings(), (INBOX,), clock) as observer:
        batch = await observer.read(None)
        batch = await observer.read(batch.cursor)
        keys = [await bucket.deliver(f"{number}") for number in range(3)]
        batch = await observer.read(batch.cursor)
        assert len(batch.messages) == 3
        assert observer.push_trouble == "", "a notification may take its time"
        clock.ahead = 3600.0
        assert "of 3 mails in the bucket the queue told nothing: another consumer" in observer.push_trouble
        bucket.send(ses_notification(bucket, keys[0]))
        await until(lambda: not observer.push_trouble)


class Skipping(SystemClock):
    """The machine's clock, of which a test may say that time has passed."""

    ahead = 0.0

    def now(self) -> Instant:
        return super().now().plus(self.ahead)


async def test_each_form_of_notification_is_understood(bucket: Bucket) -> None:
    """S3's own events, bare and in SNS's envelope, with keys in form encoding, push; test events and strangers do not.

    What is handled is deleted; what is not ours stays in the queue for whoever it is meant for.
    """
    keys = [bucket.put(name, mail(name)) for name in ("a b+c%2Fd", "ünï/cödé", "plain")]
    async with bucket.observer() as observer:
        bucket.send({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": bucket.servers.bucket})
        bucket.send("no JSON at all")
        bucket.send(json.dumps(s3_event(bucket, "inbound/x")).replace(bucket.servers.bucket, "another-bucket"))
        bucket.send(s3_event(bucket, "inbound/a+b%2Bc%252Fd"))
        bucket.send(
            {"Type": "Notification", "Message": json.dumps(s3_event(bucket, "inbound/%C3%BCn%C3%AF/c%C3%B6d%C3%A9"))}
        )
        bucket.send(ses_notification(bucket, keys[2]))
        messages = await pushed(observer, 3)
        await until(lambda: bucket.left() == 2)
    assert {message.id for message in messages} == set(keys)
    assert subjects(messages) == [message.id.removeprefix("inbound/") for message in messages]


async def test_a_duplicate_notification_does_no_harm(bucket: Bucket) -> None:
    """However often a mail is told of, it is one message, seen when it was told of first."""
    async with bucket.observer() as observer:
        batch = await observer.read(None)
        key = await bucket.deliver("once")
        (message,) = await pushed(observer)
        for _ in range(3):
            bucket.send(ses_notification(bucket, key))
        batch = await observer.read(batch.cursor)
        await until(lambda: bucket.left() == 0)
        more = (await observer.wait(CLOCK.now())).pushed
        last = await observer.read(batch.cursor)
    assert [one.id for one in batch.messages] == [key]
    assert {one.id for one in more} <= {key}
    assert all(one.seen.since(message.seen) >= 0 for one in [*more, *batch.messages])
    assert last.messages == ()


async def test_a_notification_without_its_object_asks_for_a_read(bucket: Bucket) -> None:
    """A notification alone is no sighting: where the object is not there only a read can tell."""
    async with bucket.observer() as observer:
        batch = await observer.read(None)
        bucket.send(s3_event(bucket, "inbound/never-put"))
        wake = await observer.wait(soon())
        assert (wake.pushed, wake.unread) == ((), True)
        assert (await observer.read(batch.cursor)).messages == ()


async def test_a_cursor_of_another_bucket_begins_anew(bucket: Bucket) -> None:
    """What was read of another prefix, or cannot be understood, says nothing here."""
    await bucket.deliver("old")
    async with bucket.observer(queue_url=None, prefix="inbound") as other:
        foreign = (await other.read(None)).cursor
    async with bucket.observer(queue_url=None) as observer:
        for cursor in (foreign, "{", "[]", '{"version":1,"place":"x"}'):
            batch = await observer.read(cursor)
            assert batch.messages == ()
            assert not batch.readings["email-s3"].continues


async def test_a_big_bucket_is_read_whole(bucket: Bucket) -> None:
    """A listing of many pages is complete, in the beginning and in a read whose news lie on different pages."""
    for number in range(1005):
        bucket.put(f"{number:05}", b"")
    async with bucket.observer(queue_url=None) as observer:
        batch = await observer.read(None)
        bucket.put("00500-first", mail("first"))
        bucket.put("99999-last", mail("last"))
        batch = await observer.read(batch.cursor)
        assert sorted(subjects(batch.messages)) == ["first", "last"]
        assert (await observer.read(batch.cursor)).messages == ()


class PutBehind(AwsClient):
    """A mail appears behind the first listing while it goes on."""

    bucket: Bucket | None = None

    def objects(self) -> Iterator[Listed]:
        yield from super().objects()
        if self.bucket is not None:
            bucket, self.bucket = self.bucket, None
            bucket.put("behind", mail("behind"))


async def test_what_appears_behind_a_first_listing_is_not_called_late(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next read would say that it was not there when the first one began: so the first one shows it."""
    await bucket.deliver("old")
    monkeypatch.setattr(s3, "AwsClient", PutBehind)
    monkeypatch.setattr(PutBehind, "bucket", bucket)
    async with bucket.observer(queue_url=None) as observer:
        first = await observer.read(None)
        second = await observer.read(first.cursor)
    assert subjects(first.messages) == ["behind"]
    assert second.messages == ()
    assert not first.readings["email-s3"].continues
    assert second.readings["email-s3"].continues


async def test_a_flood_is_read_in_parts_that_cover_nothing_yet(bucket: Bucket) -> None:
    """A read that cannot return everything at once claims no coverage, asks to be repeated, and loses nothing."""
    async with bucket.observer(queue_url=None) as observer:
        batch = await observer.read(None)
        for number in range(s3.MOST_MESSAGES + 5):
            bucket.put(f"{number}", mail(f"{number}"))
        first = await observer.read(batch.cursor)
        assert len(first.messages) == s3.MOST_MESSAGES
        assert dict(first.readings) == {}
        assert (await observer.wait(soon())).unread
        second = await observer.read(first.cursor)
    assert second.readings["email-s3"].continues
    assert len({message.id for message in (*first.messages, *second.messages)}) == s3.MOST_MESSAGES + 5


async def test_an_object_that_was_removed_is_no_error(bucket: Bucket) -> None:
    """What a lifecycle rule or a person removes is forgotten, and the reads go on."""
    async with bucket.observer(queue_url=None) as observer:
        batch = await observer.read(None)
        key = await bucket.deliver("removed later")
        batch = await observer.read(batch.cursor)
        bucket.servers.client("s3").delete_object(Bucket=bucket.servers.bucket, Key=key)
        batch = await observer.read(batch.cursor)
    assert batch.messages == ()
    assert batch.readings["email-s3"].continues


async def test_each_mail_goes_to_its_recipient(bucket: Bucket) -> None:
    """Of several channels the envelope's recipients, told by SES, decide before the letter head."""
    other = Channel("other", ChannelKind.EMAIL, "ses", "bob@w.sandbox.example")
    async with bucket.observer((INBOX, other)) as observer:
        batch = await observer.read(None)
        await bucket.deliver("hidden copy", to="bob@w.sandbox.example", recipient="ada+1@w.sandbox.example")
        (message,) = await pushed(observer)
        bucket.put("unannounced", mail("unannounced", "bob@w.sandbox.example"))
        batch = await observer.read(batch.cursor)
    assert set(batch.readings) == {"email-s3", "other"}
    assert message.channel == "email-s3"
    assert message.recipients[0] == "ada+1@w.sandbox.example"
    assert {one.texts[0]: one.channel for one in batch.messages} == {"hidden copy": "email-s3", "unannounced": "other"}


async def test_a_huge_mail_is_read_up_to_its_bound(bucket: Bucket) -> None:
    """No more of an object is fetched than allowed, and what was fetched is read."""
    async with bucket.observer(queue_url=None, max_message_bytes=2048) as observer:
        batch = await observer.read(None)
        bucket.put("huge", mail("huge") + b"x" * 1_000_000)
        (message,) = (await observer.read(batch.cursor)).messages
    assert message.texts[0] == "huge"
    assert sum(map(len, message.texts)) < 10_000


def s3_event(bucket: Bucket, key: str) -> dict[str, object]:
    return {
        "Records": [
            {
                "eventSource": "aws:s3",
                "eventName": "ObjectCreated:Put",
                "eventTime": "2026-11-23T10:00:00.000Z",
                "s3": {"bucket": {"name": bucket.servers.bucket}, "object": {"key": key, "size": 1}},
            }
        ]
    }


def ses_notification(bucket: Bucket, key: str) -> dict[str, object]:
    action = {"type": "S3", "bucketName": bucket.servers.bucket, "objectKey": key}
    return {"notificationType": "Received", "mail": {}, "receipt": {"recipients": [ADA], "action": action}}


async def until(true: object) -> None:
    """Wait until a condition that nothing announces has come true."""
    assert callable(true)
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(true):
            await CLOCK.sleep(0.02)
