"""Removing mails from a bucket, and looking through it: on moto over real sockets."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from prober.clean_up import Removal
from prober.errors import Unreadable
from prober.model import Message
from prober.observers import s3_removal
from prober.observers.s3 import S3Observer
from tests.conformance.s3_world import INBOX, Bucket, mail, open_bucket, soon, subjects

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


async def all_lying(observer: S3Observer, seconds_ahead: float = 60.0) -> tuple[list[Message], int]:
    """What every page shows of what changed up to so long from now, and how many pages there were."""
    found, pages, position = list[Message](), 0, ""
    while True:
        page = await observer.lying(position, soon(seconds_ahead))
        pages += 1
        found += page.messages
        assert page.controls == ()
        if not (position := page.position):
            return found, pages


def denied(bucket: Bucket, key: str) -> str:
    """A policy under which one object cannot be deleted."""
    resource = f"arn:aws:s3:::{bucket.servers.bucket}/{key}"
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": resource}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


async def test_only_what_is_named_goes(bucket: Bucket) -> None:
    """A removed mail's object is deleted, every other one stays; removing it again is harmless."""
    async with bucket.observer() as observer:
        first, second = await bucket.deliver("first"), await bucket.deliver("second")
        assert await observer.remove("email-s3", (first,)) == {first: Removal.REMOVED}
        found, _ = await all_lying(observer)
        assert [message.id for message in found] == [second]
        again = await observer.remove("email-s3", (first, second))
        assert set(again.values()) <= {Removal.REMOVED, Removal.GONE}
        assert set(again) == {first, second}
        assert (await all_lying(observer))[0] == []


async def test_every_page_is_looked_at_once(bucket: Bucket) -> None:
    """A bucket of more objects than one look fetches is shown whole over pages, each mail once; no mail is skipped."""
    count = s3_removal.PAGE * 2 + 7
    for number in range(count):
        bucket.put(f"{number:04}", mail(f"{number}"))
    bucket.put("AMAZON_SES_SETUP_NOTIFICATION", mail("setup"))
    async with bucket.observer(queue_url=None) as observer:
        found, pages = await all_lying(observer)
    assert sorted(subjects(found), key=int) == [str(number) for number in range(count)]
    assert pages == 3


async def test_what_is_younger_is_not_shown(bucket: Bucket) -> None:
    """A look shows only what was there before the instant that it is asked for."""
    await bucket.deliver("young")
    async with bucket.observer(queue_url=None) as observer:
        assert (await all_lying(observer, -3600.0))[0] == []
        assert subjects((await all_lying(observer))[0]) == ["young"]


async def test_a_look_moves_no_read(bucket: Bucket) -> None:
    """Between two reads the channels are looked at and swept: the next read tells what came, as if nothing were."""
    async with bucket.observer(queue_url=None) as observer:
        batch = await observer.read(None)
        old, new = await bucket.deliver("old"), await bucket.deliver("new")
        assert len((await all_lying(observer))[0]) == 2
        await observer.remove("email-s3", (old,))
        batch = await observer.read(batch.cursor)
    assert [message.id for message in batch.messages] == [new]
    assert batch.readings[INBOX.name].continues
    assert not observer.rests_on(batch.cursor, INBOX.name, new)


async def test_who_may_not_delete_is_told_for_good(bucket: Bucket) -> None:
    """Without s3:DeleteObject at all, and where a policy forbids it for one object, the end is denied; it stays."""
    kept, other = await bucket.deliver("kept"), await bucket.deliver("other")
    user = bucket.new_user()
    with bucket.strict():
        async with bucket.observer(queue_url=None, **user) as observer:
            assert await observer.remove("email-s3", (kept,)) == {kept: Removal.DENIED}
    bucket.servers.client("s3").put_bucket_policy(Bucket=bucket.servers.bucket, Policy=denied(bucket, kept))
    try:
        async with bucket.observer(queue_url=None) as observer:
            ends = await observer.remove("email-s3", (kept, other))
            assert ends == {kept: Removal.DENIED, other: Removal.REMOVED}
            assert subjects((await all_lying(observer))[0]) == ["kept"]
    finally:
        bucket.servers.client("s3").delete_bucket_policy(Bucket=bucket.servers.bucket)


async def test_a_bucket_that_is_away_is_unreadable(bucket: Bucket) -> None:
    """What cannot be reached now is raised with its reason, for the sweep to try again; nothing counts as removed."""
    key = await bucket.deliver("there")
    async with bucket.observer(queue_url=None) as observer:
        await bucket.servers.suspend()
        with pytest.raises(Unreadable) as removing:
            await observer.remove("email-s3", (key,))
        with pytest.raises(Unreadable) as looking:
            await observer.lying("", soon())
        await bucket.servers.resume()
        assert {removing.value.reason, looking.value.reason} == {"unreachable"}
        assert await observer.remove("email-s3", (key,)) == {key: Removal.REMOVED}
