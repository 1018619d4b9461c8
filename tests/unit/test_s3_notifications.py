"""Notifications as S3, SNS and SES write them: what is told is taken, and nothing else is believed or fatal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.observers.s3_notifications import Notice, read_notices
from prober.observers.ses_events import read_event

MAIL = {
    "timestamp": "2026-11-23T10:00:00.123Z",
    "messageId": "0100018b-0000",
    "destination": ["ada@target.example"],
    "tags": {"ses:configuration-set": ["probes"]},
}

RECEIVED = {
    "notificationType": "Received",
    "mail": MAIL,
    "receipt": {
        "timestamp": "2026-11-23T10:00:00.223Z",
        "recipients": ["Ada+1@Target.example"],
        "action": {"type": "S3", "bucketName": "b", "objectKeyPrefix": "in+box", "objectKey": "in+box/o3vr%41"},
    },
}

PUT = {
    "eventName": "ObjectCreated:Put",
    "eventTime": "2026-11-23T10:00:01.000Z",
    "s3": {"bucket": {"name": "b"}, "object": {"key": "in+box/%C3%BC%2B", "size": 10}},
}


def envelope(message: Any) -> str:
    return json.dumps({"Type": "Notification", "MessageId": "1", "Message": json.dumps(message), "TopicArn": "t"})


@pytest.mark.parametrize("wrap", [json.dumps, envelope])
def test_ses_tells_key_recipients_and_times(wrap: Any) -> None:
    """SES's notification names the object literally, with the envelope's recipients and its own two times."""
    notices = read_notices(wrap(RECEIVED))
    assert notices is not None
    (notice,) = notices
    assert (notice.bucket, notice.key, notice.recipients) == ("b", "in+box/o3vr%41", ("ada+1@target.example",))
    assert {point.name: round(point.at % 1, 3) for point in notice.waypoints} == {
        "ses_received": 0.123,
        "ses_receipt": 0.223,
    }


@pytest.mark.parametrize("wrap", [json.dumps, envelope])
def test_s3_writes_keys_as_a_form_does(wrap: Any) -> None:
    """S3's own event names each created object in form encoding; what was removed is no news."""
    removed = {**PUT, "eventName": "ObjectRemoved:Delete"}
    notices = read_notices(wrap({"Records": [PUT, removed]}))
    assert notices is not None
    assert [(notice.bucket, notice.key) for notice in notices] == [("b", "in box/ü+")]


def test_the_test_event_is_understood_and_empty() -> None:
    """The first message of every queue names no object."""
    body = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-11-23T10:00:00Z", "Bucket": "b"}
    assert read_notices(json.dumps(body)) == ()
    assert read_notices(envelope(body)) == ()


@pytest.mark.parametrize(
    "body",
    [
        "",
        "Successfully validated SNS topic for Amazon SES event publishing.",
        "[]",
        "null",
        "[" * 100_000,
        '{"a":' * 100_000,
        json.dumps({"Type": "SubscriptionConfirmation", "Message": "confirm"}),
        json.dumps({"Records": [{"dynamodb": {}}]}),
        json.dumps({"Records": "none"}),
        json.dumps({**RECEIVED, "receipt": {"action": {"type": "SNS"}}}),
        json.dumps({**RECEIVED, "receipt": {"action": {"type": "S3", "bucketName": 1, "objectKey": ["x"]}}}),
        json.dumps({"eventType": "Delivery", "mail": MAIL, "delivery": {}}),
    ],
)
def test_what_is_no_notification_is_left_alone(body: str) -> None:
    """Anything else is nothing, whatever its shape and depth."""
    assert read_notices(body) is None


@settings(deadline=None, max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(
            st.sampled_from(["Records", "s3", "mail", "receipt", "action", "bucket", "object", "key", "name", "Message",
                             "Type", "notificationType", "eventType", "bounce", "timestamp", "bouncedRecipients"]),
            inner | st.sampled_from(["Received", "Notification", "Bounce", "ObjectCreated:Put"]),
        ),
    )
)  # fmt: skip
def test_no_shape_is_fatal(value: Any) -> None:
    """Whatever JSON a stranger puts into the queue, reading it ends."""
    read_notices(json.dumps(value))
    read_event(json.dumps(value))


def test_a_notice_is_bounded() -> None:
    """However many recipients a stranger claims, a bounded number is kept; a body that is too long is not looked at."""
    body = json.loads(json.dumps(RECEIVED))
    body["receipt"]["recipients"] = [f"{number}@x.example" for number in range(1000)]
    notices = read_notices(json.dumps(body))
    assert notices is not None
    assert isinstance(notices[0], Notice)
    assert len(notices[0].recipients) == 100
    assert read_notices(json.dumps({**RECEIVED, "padding": "x" * 1_200_000})) is None
