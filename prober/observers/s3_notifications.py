"""What arrives in the queues: S3's and SES's notifications, bare or in SNS's envelope. Pure; nothing in it is trusted.

A notification only names an object, which is then read from the bucket itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote_plus

from prober.model import Waypoint
from prober.observers.json_reading import read_json

MOST_BODY: Final = 1_100_000
"""Characters of a body that are looked at: SQS carries no more than a mebibyte."""

_ENVELOPES: Final = 2
_MOST_RECIPIENTS: Final = 100
MILLISECOND: Final = 0.001


@dataclass(frozen=True, slots=True)
class Notice:
    """That an object was put. ``recipients`` are the envelope's, lower-cased, where the notification knows them."""

    bucket: str
    key: str
    recipients: tuple[str, ...] = ()
    waypoints: tuple[Waypoint, ...] = ()


def read_notices(body: str) -> tuple[Notice, ...] | None:
    """The objects that a queue's message tells of; none for S3's test event, None for what is no notification."""
    content = opened(body)
    if content is None:
        return None
    if content.get("Event") == "s3:TestEvent":
        return ()
    records = content.get("Records")
    if isinstance(records, list) and all(mapping(record, "s3") for record in records):
        return tuple(_from_s3(records))
    if content.get("notificationType") == "Received":
        notice = _from_ses(content)
        return None if notice is None else (notice,)
    return None


def opened(body: str) -> dict[str, Any] | None:
    """The JSON object in a message, out of SNS's envelope."""
    for _ in range(_ENVELOPES + 1):
        try:
            content = read_json(body) if len(body) <= MOST_BODY else None
        except ValueError:
            return None
        if not isinstance(content, dict):
            return None
        inner = content.get("Message")
        if content.get("Type") != "Notification" or not isinstance(inner, str):
            return content
        body = inner
    return None


def _from_s3(records: list[dict[str, Any]]) -> Iterator[Notice]:
    """The objects that were created. S3 writes a key as a form's value: a space is a plus."""
    for record in records:
        bucket = mapping(record["s3"], "bucket").get("name")
        key = mapping(record["s3"], "object").get("key")
        created = str(record.get("eventName", "")).removeprefix("s3:").startswith("ObjectCreated:")
        if created and isinstance(bucket, str) and isinstance(key, str) and key:
            at = seconds(record.get("eventTime"))
            points = () if at is None else (Waypoint("s3_put", at, "s3", MILLISECOND),)
            yield Notice(bucket, unquote_plus(key), waypoints=points)


def _from_ses(content: Mapping[str, Any]) -> Notice | None:
    """The object of a receipt rule's S3 action, whose key SES writes as it is."""
    mail, receipt = mapping(content, "mail"), mapping(content, "receipt")
    action = mapping(receipt, "action")
    bucket, key = action.get("bucketName"), action.get("objectKey")
    if action.get("type") != "S3" or not isinstance(bucket, str) or not isinstance(key, str) or not key:
        return None
    told = receipt.get("recipients")
    recipients = [one.lower() for one in told if isinstance(one, str)] if isinstance(told, list) else []
    times = (("ses_received", mail.get("timestamp")), ("ses_receipt", receipt.get("timestamp")))
    points = [(name, seconds(said)) for name, said in times]
    return Notice(
        bucket,
        key,
        tuple(dict.fromkeys(recipients[:_MOST_RECIPIENTS])),
        tuple(Waypoint(name, at, "ses", MILLISECOND) for name, at in points if at is not None),
    )


def mapping(value: Any, name: str) -> dict[str, Any]:
    inner = value.get(name) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, dict) else {}


def seconds(said: Any) -> float | None:
    """Seconds since 1970 of an ISO 8601 time, None for anything else."""
    if not isinstance(said, str) or len(said) > 40:
        return None
    try:
        at = datetime.fromisoformat(said)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
