"""The witness of SES against moto: events are heard until they are forgotten, and the suppression list is asked."""

from __future__ import annotations

import secrets
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from prober.errors import Unreadable
from prober.model import Waypoint
from prober.observers.s3 import S3Settings
from prober.observers.ses import SesWitness
from prober.sandbox import ses_suppression
from tests.conformance.s3_world import ADA, CLOCK, Bucket, open_bucket
from tests.conformance.test_s3_refusals import CANARY, scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT = 1_795_428_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aws() -> AsyncIterator[Bucket]:
    async with open_bucket(secrets.token_hex(4)) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def bucket(aws: Bucket) -> AsyncIterator[Bucket]:
    """AWS with an empty events queue and nobody on the suppression list."""
    sqs, url = aws.servers.client("sqs"), events_url(aws)
    sqs.delete_queue(QueueUrl=url)
    sqs.create_queue(QueueName=url.rsplit("/", 1)[-1])
    ses_suppression.forgive("w.sandbox.example")
    yield aws


def events_url(bucket: Bucket) -> str:
    return str(bucket.servers.settings()["events_queue_url"]).replace(bucket.servers.endpoint_url, bucket.inner_url)


def witness(bucket: Bucket, /, **changes: object) -> SesWitness:
    return SesWitness("ses", bucket.settings(**changes), CLOCK)


def event(message_id: str, kind: str = "Send") -> dict[str, Any]:
    mail = {"messageId": message_id, "timestamp": "2026-11-23T10:00:00.000Z", "destination": [ADA]}
    return {"eventType": kind, "mail": mail, kind.lower(): {}}


async def told(bucket: Bucket, *events: dict[str, Any]) -> None:
    for one in events:
        bucket.servers.publish(one)
    await bucket.servers.told()


async def test_what_is_not_forgotten_comes_again(bucket: Bucket) -> None:
    """An event is heard until it is forgotten, also by a later life; what is no event of ours is deleted."""
    await told(bucket, event("m-1"), event("m-2"), event("m-3", "Open"), {"Service": "Amazon SES"})
    async with witness(bucket) as one:
        heard = await one.hear()
        assert {said.texts[0] for said in heard} == {"<m-1@email.amazonses.com>", "<m-2@email.amazonses.com>"}
        assert bucket.left(url=events_url(bucket)) == 2
        (act,) = one.acts.take()
        assert (act.kind, act.place, act.answer, act.number) == ("forget", "ses", "deleted", 2)
        assert act.subject == f"what is no event of a mail of the queue {events_url(bucket).rsplit('/', 1)[-1]}"
        await one.forget([said for said in heard if "m-1" in said.texts[0]])
        assert bucket.left(url=events_url(bucket)) == 1
    visible_again(bucket, heard[0].receipt, heard[1].receipt)
    async with witness(bucket) as another:
        (said,) = await another.hear()
        assert said.texts[0] == "<m-2@email.amazonses.com>"
        await another.forget([said])
        assert bucket.left(url=events_url(bucket)) == 0
        assert await another.hear() == ()


def visible_again(bucket: Bucket, *receipts: str) -> None:
    """As if the visibility timeout had passed."""
    sqs = bucket.servers.client("sqs")
    for receipt in receipts:
        try:
            sqs.change_message_visibility(QueueUrl=events_url(bucket), ReceiptHandle=receipt, VisibilityTimeout=0)
        except sqs.exceptions.ReceiptHandleIsInvalid:
            continue  # deleted


async def test_more_than_one_answer_of_the_queue_is_heard(bucket: Bucket) -> None:
    """SQS hands out ten messages at a time; one hearing has them all."""
    await told(bucket, *(event(f"m-{number}") for number in range(25)))
    async with witness(bucket) as one:
        heard = await one.hear()
        await one.forget(heard)
    assert len({said.texts[0] for said in heard}) == 25
    assert bucket.left(url=events_url(bucket)) == 0


async def test_without_an_events_queue_nothing_is_heard(bucket: Bucket) -> None:
    """No queue, no word; and no bucket is needed where only the queue is there."""
    async with witness(bucket, events_queue_url=None) as one:
        assert await one.hear() == ()
        await one.forget(())
    await told(bucket, event("m-1"))
    async with witness(bucket, bucket=None, queue_url=None) as one:
        assert len(await one.hear()) == 1


async def test_a_missing_events_queue_is_told(bucket: Bucket) -> None:
    """A queue that is not there is Unreadable, by its name."""
    url = f"{bucket.servers.endpoint_url}/1/no-such-events"
    async with witness(bucket, events_queue_url=url) as one:
        with pytest.raises(Unreadable, match=r"missing_queue.*no-such-events"):
            await one.hear()


async def test_the_suppression_list_is_asked(bucket: Bucket) -> None:
    """An address on the list has its reason and time; another, and a forgiven one, are on none."""
    tagged = ADA.replace("@", "+k3f7q2@")
    ses_suppression.suppress(tagged, float(AT))
    async with witness(bucket) as one:
        assert await one.suppressed(ADA) is None
        point = await one.suppressed(tagged)
    assert point == Waypoint(
        "ses_suppressed", float(AT), "ses", 1.0,
        "suppressed since 2026-11-23T10:00:00Z (BOUNCE): SES sends nothing to this address, a later loss is self-made",
    )  # fmt: skip
    ses_suppression.forgive("w.sandbox.example")
    async with witness(bucket) as another:
        assert await another.suppressed(tagged) is None


async def test_an_address_is_not_asked_for_again_at_once(bucket: Bucket) -> None:
    """One answer serves a minute: SES lets few such questions through."""
    async with witness(bucket) as one:
        assert await one.suppressed(ADA) is None
        ses_suppression.suppress(ADA, float(AT))
        assert await one.suppressed(ADA) is None


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, '{"__type": "NotFoundException", "message": "not there"}', ""),
        (403, '{"__type": "AccessDeniedException", "message": "no"}', ""),
        (500, "{}", "unreachable"),
        (200, '{"SuppressedDestination": {"EmailAddress": "a@b.example"}}', "protocol"),
    ],
)
async def test_what_ses_answers_instead(status: int, body: str, expected: str) -> None:
    """Not on the list, and not allowed to ask, are None; a failing SES and a strange answer are neither yes nor no."""
    async with (
        scripted({f"/v2/email/suppression/addresses/{ADA}": (status, body)}) as url,
        SesWitness("ses", scripted_settings(url), CLOCK) as one,
    ):
        try:
            reason = "" if await one.suppressed(ADA) is None else "suppressed"
        except Unreadable as error:
            reason = error.reason
    assert reason == expected


def scripted_settings(url: str) -> S3Settings:
    its = {"events_queue_url": f"{url}/q", "region": "us-east-1", "endpoint_url": url}
    return S3Settings.model_validate({**its, "access_key_id": "AKIA", "secret_access_key": CANARY})


async def test_leaving_ends_its_thread(bucket: Bucket) -> None:
    """No thread of the witness is left, also when AWS is away; and one that has been left is Unreadable."""
    before = threading.active_count()
    for out in (False, True):
        one = witness(bucket)
        async with one:
            await one.hear()
            if out:
                await bucket.servers.suspend()
                with pytest.raises(Unreadable):
                    await one.hear()
                await bucket.servers.resume()
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("ses-")]
        with pytest.raises(Unreadable):
            await one.hear()
    assert threading.active_count() <= before + 1, "moto may answer yet"
