"""SES as the target's sender: what it publishes of each mail, in SES's own forms, and whom it sends to no more."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from email import message_from_bytes
from email.policy import default
from typing import Any, Final

from prober.clock import Clock, rfc3339
from prober.sandbox import ses_suppression
from prober.sandbox.faults import Faults
from prober.sandbox.records import Outgoing

Part = dict[str, Any]

_REMEMBERED: Final = 10_000
_MTA: Final = "dns; a8-1.smtp-out.amazonses.com"
_UNKNOWN: Final = ("5.1.1", "smtp; 550 5.1.1 user unknown")


class Ses:
    """Asked before and told after each mail that the target hands over; ``publish`` is given each event."""

    def __init__(self, sender: str, publish: Callable[[Part], None], faults: Faults, clock: Clock) -> None:
        self._sender = sender
        self._publish = publish
        self._faults = faults
        self._clock = clock
        self._taken: OrderedDict[str, bool] = OrderedDict()
        self._delayed: OrderedDict[str, None] = OrderedDict()
        self._complained: set[str] = set()

    def take(self, message: Outgoing, raw: bytes) -> bool:
        """Whether a mail is to be carried on; the target believes so in any case. Another attempt is the same."""
        if message.message_id not in self._taken:
            self._taken[message.message_id] = self._first(message, raw)
            if len(self._taken) > _REMEMBERED:
                self._taken.popitem(last=False)
        return self._taken[message.message_id]

    def delivered(self, message: Outgoing, raw: bytes) -> None:
        """The receiving server took it."""
        told = {"recipients": [message.address], "smtpResponse": "250 2.0.0 Delivered", "reportingMTA": _MTA}
        self._tell("Delivery", "delivery", message, raw, {**told, "processingTimeMillis": 10})
        if message.message_id in self._complained:
            self._complained.discard(message.message_id)
            complained: Part = {"complainedRecipients": [{"emailAddress": message.address}], "feedbackId": _number()}
            why = {"complaintSubType": None, "complaintFeedbackType": "abuse", "userAgent": "sandbox/1"}
            self._tell("Complaint", "complaint", message, raw, {**complained, **why})

    def failed(self, message: Outgoing, raw: bytes, why: str, *, passing: bool) -> None:
        """The receiving server did not take it: for good, or for now, which is told once."""
        if not passing:
            self._bounce(message, raw, "General", "5.0.0", f"smtp; 550 {why}")
        elif message.message_id not in self._delayed:
            self._delayed[message.message_id] = None
            if len(self._delayed) > _REMEMBERED:
                self._delayed.popitem(last=False)
            delayed = {"emailAddress": message.address, "status": "4.4.1", "diagnosticCode": f"smtp; 451 {why}"}
            told = {"delayType": "TransientCommunicationFailure", "delayedRecipients": [delayed]}
            self._tell("DeliveryDelay", "deliveryDelay", message, raw, told)

    def _first(self, message: Outgoing, raw: bytes) -> bool:
        fate = self._faults.feedback(message.address)
        if fate == "reject":
            self._tell("Reject", "reject", message, raw, {"reason": "Bad content"})
            return False
        self._tell("Send", "send", message, raw, {})
        if ses_suppression.is_suppressed(message.address):
            self._bounce(message, raw, "OnAccountSuppressionList", "5.1.1", "Amazon SES did not send the message to "
                         "this address because it is on the suppression list for your account.")  # fmt: skip
            return False
        if fate == "bounce":
            self._bounce(message, raw, "General", *_UNKNOWN)
            return False
        if fate == "complaint":
            self._complained.add(message.message_id)
        return True

    def _bounce(self, message: Outgoing, raw: bytes, kind: str, status: str, diagnosis: str) -> None:
        if not ses_suppression.is_suppressed(message.address):
            ses_suppression.suppress(message.address, self._clock.now().wall)
        bounced = {"emailAddress": message.address, "action": "failed", "status": status, "diagnosticCode": diagnosis}
        told = {"bounceType": "Permanent", "bounceSubType": kind, "bouncedRecipients": [bounced]}
        self._tell("Bounce", "bounce", message, raw, {**told, "feedbackId": _number(), "reportingMTA": _MTA})

    def _tell(self, kind: str, part: str, message: Outgoing, raw: bytes, told: Part) -> None:
        at = rfc3339(self._clock.now().wall)[:-4] + "Z"
        timed = told if kind in {"Send", "Reject"} else {"timestamp": at, **told}
        self._publish({"eventType": kind, "mail": self._mail(message, raw, at), part: timed})

    def _mail(self, message: Outgoing, raw: bytes, at: str) -> Part:
        letter = message_from_bytes(raw, policy=default)
        tags = {"ses:configuration-set": ["sandbox"], "publication_id": [message.publication_id]}
        return {
            "timestamp": at,
            "source": self._sender,
            "sendingAccountId": "123456789012",
            "messageId": message.message_id,
            "destination": [message.address],
            "headersTruncated": False,
            "headers": [{"name": name, "value": str(value)} for name, value in letter.items()],
            "commonHeaders": {"from": [self._sender], "to": [message.address], "subject": message.subject},
            "tags": tags,
        }


def _number() -> str:
    return f"0100{secrets.token_hex(6)}-{secrets.token_hex(16)}-000000"
