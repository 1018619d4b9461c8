"""What ``check`` finds about mail that SES puts into a bucket: credentials, bucket, region, queues, and AWS's clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from prober.acts import Acts
from prober.aside import aside
from prober.clock import Clock
from prober.errors import Unreadable
from prober.findings import ClockReading, Examined, Finding, clock_of_date, ok, unknown, unread, warning, wrong
from prober.model import Channel
from prober.observers.s3_client import AwsClient
from prober.observers.s3_settings import S3Settings
from prober.validation import validate_adapter

_CONNECTED_WITHIN = 2.0
_ANSWERED_WITHIN = 4.0
_SUBJECTS = {"auth": "credentials", "missing_bucket": "bucket", "missing_access": "permissions", "tls": "TLS"}


async def examine(
    name: str, raw: Mapping[str, Any], channels: tuple[Channel, ...], clock: Clock, *, post: bool, acts: Acts
) -> Examined:
    """List one page of the bucket and look at the queues; no message of a queue is taken, and nothing is posted.

    Raises ConfigurationError; the rest is in the findings.
    """
    settings = validate_adapter(S3Settings, raw)
    quick = settings.model_copy(
        update={
            "connect_timeout": min(settings.connect_timeout, _CONNECTED_WITHIN),
            "read_timeout": min(settings.read_timeout, _ANSWERED_WITHIN),
        }
    )
    client = AwsClient(quick, clock)
    try:
        return await aside(lambda: _look(name, quick, client, clock), f"{name}-examination")
    finally:
        client.stop()
        client.close()


def _look(name: str, settings: S3Settings, client: AwsClient, clock: Clock) -> Examined:
    findings: list[Finding] = []
    clocks: tuple[ClockReading, ...] = ()
    if settings.bucket is not None:
        try:
            asked = clock.now()
            answer = client.ask("s3", "list_objects_v2", f"list the bucket {settings.bucket}",
                                Bucket=settings.bucket, Prefix=settings.prefix)  # fmt: skip
            headers = answer["ResponseMetadata"]["HTTPHeaders"]
            clocks = clock_of_date(name, headers.get("date"), asked, clock.now())
            findings.append(_bucket(settings, answer))
        except Unreadable as error:
            findings.append(unread(_SUBJECTS.get(error.reason, "reachable"), error))
            if error.reason in ("auth", "unreachable", "timeout", "tls"):
                return Examined(name, tuple(findings))
    for field, url in (("queue_url", settings.queue_url), ("events_queue_url", settings.events_queue_url)):
        if url is not None:
            findings.append(_queue(field, url, settings, client))
    return Examined(name, tuple(findings), clocks)


def _bucket(settings: S3Settings, answer: Mapping[str, Any]) -> Finding:
    if "IsTruncated" not in answer:  # boto3 takes any page for a listing of nothing
        return unknown("bucket", "what answers there is no listing of S3's", "correct endpoint_url")
    place = f"{settings.bucket}/{settings.prefix} in {settings.region}"
    count = int(answer.get("KeyCount") or 0)
    if answer.get("IsTruncated"):
        sentence = f"{place} holds more than {count} objects: each read lists them all"
        return warning("bucket", sentence, "let a lifecycle rule remove mails after a day or two")
    return ok("bucket", f"{place} can be listed, {count} object{'' if count == 1 else 's'}")


def _queue(field: str, url: str, settings: S3Settings, client: AwsClient) -> Finding:
    subject = "queue" if field == "queue_url" else "events queue"
    region = _region_of(url)
    if region and region != settings.region:
        return wrong(subject, f"it lies in {region}, but region is {settings.region}", f"correct region or {field}")
    try:
        answer = client.ask("sqs", "get_queue_attributes", f"look at the queue {url.rsplit('/', 1)[-1]}",
                            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])  # fmt: skip
    except Unreadable as error:
        if error.reason == "missing_access":
            sentence = "it could not be looked at without taking messages from it"
            return warning(subject, sentence, "allow sqs:GetQueueAttributes; reading needs sqs:ReceiveMessage")
        return unread(subject, error)
    waiting = (answer.get("Attributes") or {}).get("ApproximateNumberOfMessages")
    if waiting is None:
        return unknown(subject, "what answers there is no queue of SQS's", f"correct {field} and endpoint_url")
    return ok(subject, f"there, about {waiting} messages waiting")


def _region_of(url: str) -> str:
    """The region that an address of SQS's own names, empty for any other."""
    parts = (urlsplit(url).hostname or "").split(".")
    return parts[1] if len(parts) >= 4 and parts[0] == "sqs" and parts[2] == "amazonaws" else ""
