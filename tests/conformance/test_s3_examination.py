"""What ``check`` finds about a bucket and its queues, on moto over real sockets."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import nullcontext
from typing import Any

import pytest
import pytest_asyncio

from prober.acts import Acts
from prober.findings import Examined, State
from prober.observers.s3_examination import _bucket, examine
from tests.conformance.hostile_peer import MANNERS, standing
from tests.conformance.s3_world import CLOCK, INBOX, Bucket, mail, open_bucket

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "canary-secret-access-key-1"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def aws() -> AsyncIterator[Bucket]:
    async with open_bucket(secrets.token_hex(4)) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def bucket(aws: Bucket) -> AsyncIterator[Bucket]:
    """The bucket and its queues, empty."""
    await aws.clear()
    yield aws


async def looked(bucket: Bucket, /, **changes: Any) -> Examined:
    """The examination with other settings; None takes one away."""
    its = {name: value for name, value in bucket.servers.settings().items() if name != "adapter"} | changes
    raw = {name: value for name, value in its.items() if value is not None}
    examined = await examine("ses", raw, (INBOX,), CLOCK, post=True, acts=Acts(CLOCK))
    assert CANARY not in repr(examined)
    return examined


def told(examined: Examined) -> dict[str, State]:
    return {finding.subject: finding.state for finding in examined.findings}


def line(examined: Examined, subject: str) -> str:
    (finding,) = [each for each in examined.findings if each.subject == subject]
    return f"{finding.sentence} → {finding.mend}"


async def test_all_is_well(bucket: Bucket) -> None:
    """The bucket is listed and both queues are looked at; no message is taken from one, and S3's clock is met."""
    await bucket.deliver("hello")
    await bucket.servers.told()
    before = bucket.left()
    examined = await looked(bucket)
    assert told(examined) == dict.fromkeys(("bucket", "queue", "events queue"), State.OK)
    assert "1 object" in line(examined, "bucket")
    assert "about 1 messages" in line(examined, "queue")
    assert bucket.left() == before == 1
    (clock,) = examined.clocks
    assert abs(clock.offset) <= clock.uncertainty + 1


async def test_a_bucket_that_has_grown_is_worth_a_look(bucket: Bucket) -> None:
    """More objects than one listing tells are a warning: each read lists them all."""
    finding = _bucket(bucket.settings(), {"IsTruncated": True, "KeyCount": 1000})
    assert (finding.subject, finding.state) == ("bucket", State.WARNING)
    assert "lifecycle" in finding.mend


@pytest.mark.parametrize(
    ("changes", "subject", "words"),
    [({"bucket": "no-such-bucket"}, "bucket", "check bucket and region"),
     ({"queue_url": "https://sqs.eu-central-1.amazonaws.com/1/q"}, "queue", "eu-central-1"),
     ({"access_key_id": "AKIANOBODY", "secret_access_key": CANARY}, "credentials", "access_key_id")],
)  # fmt: skip
async def test_what_is_wrong_is_the_one_line(bucket: Bucket, changes: dict[str, Any], subject: str, words: str) -> None:
    """A missing bucket, a queue of another region and unknown keys are each named, with the mend."""
    with bucket.strict() if "access_key_id" in changes else nullcontext():
        examined = await looked(bucket, **changes)
    assert [name for name, state in told(examined).items() if state is not State.OK] == [subject]
    assert told(examined)[subject] is State.WRONG
    assert words in line(examined, subject)


async def test_a_queue_that_is_not_there(bucket: Bucket) -> None:
    """A queue that SQS does not know is told by its name."""
    examined = await looked(bucket, queue_url=f"{bucket.servers.endpoint_url}/123456789012/no-such-queue")
    assert told(examined)["queue"] is State.WRONG
    assert "no-such-queue" in line(examined, "queue")


async def test_rights_that_are_missing(bucket: Bucket) -> None:
    """Somebody who may do nothing is told what to allow, for the bucket as an error, for the queues as a warning."""
    user = bucket.new_user()
    with bucket.strict():
        examined = await looked(bucket, **user)
    assert told(examined)["permissions"] is State.WRONG
    assert "s3:ListBucket" in line(examined, "permissions")
    assert told(examined)["queue"] is State.WARNING
    assert user["secret_access_key"] not in repr(examined)


async def test_events_alone(bucket: Bucket) -> None:
    """An observer that only hears SES's events has no bucket: nothing is said of one."""
    examined = await looked(bucket, bucket=None, prefix=None, queue_url=None)
    assert told(examined) == {"events queue": State.OK}


async def test_aws_is_away(bucket: Bucket) -> None:
    """What cannot be reached is one line that says so, and is not known to be wrong."""
    bucket.put("x", mail("x"))
    await bucket.servers.suspend()
    try:
        examined = await looked(bucket)
    finally:
        await bucket.servers.resume()
    assert told(examined) == {"reachable": State.UNKNOWN}
    assert "network" in line(examined, "reachable")


async def test_a_page_is_no_bucket_and_no_queue(bucket: Bucket) -> None:
    """Where some web page answers instead of AWS, neither passes for well: boto3 itself takes it for an empty one."""
    (page,) = [manner for manner in MANNERS if manner.name == "200 and a page"]
    async with standing(page) as port:
        url = f"http://127.0.0.1:{port}"
        examined = await looked(bucket, endpoint_url=url, queue_url=f"{url}/1/q", events_queue_url=None)
    assert told(examined) == {"bucket": State.UNKNOWN, "queue": State.UNKNOWN}
    assert "endpoint_url" in line(examined, "bucket")
    assert "endpoint_url" in line(examined, "queue")
