"""What SES publishes of a mail that it sends, as its documentation shows it: when, why, of whom, and by which keys."""

from __future__ import annotations

import json
from typing import Any

import pytest

from prober.marker import Keyring, SigningKey, find
from prober.observers.ses_events import read_event
from tests.unit.test_s3_notifications import RECEIVED, envelope

MESSAGE_ID = "0100018b7c3b-1111-2222"
PUBLICATION = "0b7f3f5e-2a54-4c0e-9d3c-0a4b7f1d2c11"
MAIL: dict[str, Any] = {
    "timestamp": "2026-11-23T10:00:00.123Z",
    "messageId": MESSAGE_ID,
    "source": "news@target.example",
    "destination": ["Ada+k3f7q2@Target.example"],
    "headers": [{"name": "Subject", "value": "hello"}, {"name": "X-Synthetic-Probe", "value": "here-k3f7q2"}],
    "tags": {"ses:configuration-set": ["probes"], "publication_id": [PUBLICATION]},
}
KEYRING = Keyring("test", (SigningKey("t", b"a secret that only the tests know"),))

EVENTS: dict[str, tuple[dict[str, Any], float, str, tuple[str, ...]]] = {
    "ses_send": ({"eventType": "Send", "send": {}}, 0.123, "", ("ada+k3f7q2@target.example",)),
    "ses_delivery": (
        {
            "eventType": "Delivery",
            "delivery": {
                "timestamp": "2026-11-23T10:00:02.5Z",
                "recipients": ["ada@target.example"],
                "smtpResponse": "250 ok",
                "reportingMTA": "a8-1",
            },
        },
        2.5,
        "250 ok a8-1",
        ("ada@target.example",),
    ),
    "ses_bounce": (
        {
            "eventType": "Bounce",
            "bounce": {
                "timestamp": "2026-11-23T10:00:03Z",
                "bounceType": "Permanent",
                "bounceSubType": "General",
                "bouncedRecipients": [
                    {"emailAddress": "Ada <ADA@target.example>", "diagnosticCode": "smtp; 550 5.1.1"}
                ],
            },
        },
        3.0,
        "bounced: Permanent General, smtp; 550 5.1.1",
        ("ada@target.example",),
    ),
    "ses_complaint": (
        {
            "notificationType": "Complaint",
            "complaint": {
                "timestamp": "2026-11-23T10:00:04Z",
                "complaintFeedbackType": "abuse",
                "complaintSubType": None,
                "complainedRecipients": [{"emailAddress": "ada@target.example"}],
            },
        },
        4.0,
        "complained of: abuse",
        ("ada@target.example",),
    ),
    "ses_delivery_delay": (
        {
            "eventType": "DeliveryDelay",
            "deliveryDelay": {
                "timestamp": "2026-11-23T10:00:05Z",
                "delayType": "MailboxFull",
                "delayedRecipients": [
                    {"emailAddress": "ada@target.example", "diagnosticCode": "smtp; 452 4.2.2\r\n full"},
                    {"emailAddress": "bob@target.example", "diagnosticCode": "smtp; 452 4.2.2\r\n full"},
                ],
            },
        },
        5.0,
        "delayed: MailboxFull, smtp; 452 4.2.2 full",
        ("ada@target.example", "bob@target.example"),
    ),
    "ses_reject": (
        {"eventType": "Reject", "reject": {"reason": "Bad content"}},
        0.123,
        "rejected by SES: Bad content",
        ("ada+k3f7q2@target.example",),
    ),
}


@pytest.mark.parametrize("wrap", [json.dumps, envelope])
@pytest.mark.parametrize("name", EVENTS)
def test_each_event_of_ses_is_read(name: str, wrap: Any) -> None:
    """Each event has its time on SES's clock, says why, and of whom it speaks; the reason repeats no address."""
    said, at, detail, recipients = EVENTS[name]
    event = read_event(wrap({**said, "mail": MAIL}), "r")
    assert event is not None
    point = event.waypoint
    assert (point.name, point.source, point.detail) == (name, "ses", detail)
    assert round(point.at % 60, 3) == at
    assert (event.recipients, event.receipt) == (recipients, "r")


def test_an_event_is_known_by_message_id_tags_and_recipient() -> None:
    """SES's message id, what the target gave as tags and headers, and the plus-tag are keys; SES's own tags are not."""
    event = read_event(json.dumps({"eventType": "Send", "send": {}, "mail": MAIL}))
    assert event is not None
    found = {key.value for key in find(event.texts, event.recipients, KEYRING)}
    assert {MESSAGE_ID, PUBLICATION, "k3f7q2"} <= found
    assert "X-Synthetic-Probe: here-k3f7q2" in event.texts
    assert not any("probes" in text for text in event.texts)


@pytest.mark.parametrize(
    "body",
    [
        {"eventType": "Open", "mail": MAIL, "open": {"timestamp": "2026-11-23T10:00:00Z"}},
        {"eventType": "Send", "mail": {"timestamp": "2026-11-23T10:00:00Z"}},
        {"eventType": "Send", "mail": {"messageId": "x", "timestamp": "yesterday"}},
        RECEIVED,
        {"eventType": ["Bounce"], "mail": MAIL},
        [1],
    ],
)
def test_other_events_are_none_of_ours(body: Any) -> None:
    """What people do with a mail, and what lacks its id or time, is no event."""
    assert read_event(json.dumps(body)) is None


def test_an_event_is_bounded() -> None:
    """However much a stranger writes, what is kept of it is bounded."""
    many = [{"emailAddress": f"{n}@x.example", "diagnosticCode": f"{n} " + "x" * 9000} for n in range(1000)]
    headers = [{"name": "X", "value": "y" * 9000}] * 1000
    bounce = {"timestamp": MAIL["timestamp"], "bounceType": "Permanent", "bouncedRecipients": many}
    body = {"eventType": "Bounce", "bounce": bounce, "mail": {**MAIL, "headers": headers}}
    assert read_event(json.dumps(body)) is None, "beyond a mebibyte nothing is looked at"
    bounce["bouncedRecipients"] = many[:101]
    body["mail"] = {**MAIL, "headers": [{"name": "X", "value": "y" * 100}] * 1000}
    event = read_event(json.dumps(body))
    assert event is not None
    assert len(event.recipients) == 100
    assert len(event.waypoint.detail) == 500
    assert len(event.texts) == 201
