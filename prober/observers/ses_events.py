"""What SES publishes of mail that it was given to send, as it arrives in a queue. Pure; nothing in it is trusted.

The forms are those of docs.aws.amazon.com, "Examples of event data that Amazon SES publishes to Amazon SNS".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from prober.model import Hearsay, Waypoint
from prober.observers.s3_notifications import MILLISECOND, mapping, opened, seconds

DOMAIN: Final = "email.amazonses.com"
"""Behind SES's id of a mail, in the Message-ID that it writes."""

_MOST_DETAIL: Final = 500
_MOST_RECIPIENTS: Final = 100
_MOST_TEXTS: Final = 200
_MOST_CHARACTERS: Final = 1000


@dataclass(frozen=True, slots=True)
class _Form:
    """One kind of event: our word, the part that tells of it, whom it speaks of, and what it says about why."""

    name: str
    part: str
    verb: str = ""
    recipients: str = ""
    details: tuple[str, ...] = ()


_FORMS: Final[Mapping[str, _Form]] = {
    "Send": _Form("ses_send", "send"),
    "Delivery": _Form("ses_delivery", "delivery", "", "recipients", ("smtpResponse", "reportingMTA")),
    "Bounce": _Form("ses_bounce", "bounce", "bounced", "bouncedRecipients", ("bounceType", "bounceSubType")),
    "Complaint": _Form(
        "ses_complaint", "complaint", "complained of", "complainedRecipients",
        ("complaintFeedbackType", "complaintSubType"),
    ),
    "DeliveryDelay": _Form("ses_delivery_delay", "deliveryDelay", "delayed", "delayedRecipients", ("delayType",)),
    "Reject": _Form("ses_reject", "reject", "rejected by SES", "", ("reason",)),
}  # fmt: skip


def read_event(body: str, receipt: str = "") -> Hearsay | None:
    """The event (or feedback notification) in a queue's message, None for anything else."""
    content = opened(body)
    if content is None:
        return None
    form = _FORMS.get(str(content.get("eventType") or content.get("notificationType") or ""))
    mail = mapping(content, "mail")
    message_id = mail.get("messageId")
    if form is None or not isinstance(message_id, str) or not message_id:
        return None
    said = mapping(content, form.part)
    at = seconds(said.get("timestamp"))
    at = seconds(mail.get("timestamp")) if at is None else at
    if at is None:
        return None
    told = said.get(form.recipients) or mail.get("destination")
    return Hearsay(
        Waypoint(form.name, at, "ses", MILLISECOND, _sentence(form, said)),
        (f"<{message_id[:200]}@{DOMAIN}>", *islice(_texts(mail), _MOST_TEXTS)),
        tuple(dict.fromkeys(islice(_addresses(told), _MOST_RECIPIENTS))),
        receipt,
    )


def _sentence(form: _Form, said: Mapping[str, Any]) -> str:
    """Why, in SES's words and the other mail server's; addresses are left out."""
    words = " ".join(word for name in form.details if isinstance(word := said.get(name), str))
    reasons = dict.fromkeys(islice(_diagnoses(said.get(form.recipients)), _MOST_RECIPIENTS))
    text = ", ".join(filter(None, (words, *reasons)))
    return " ".join(": ".join(filter(None, (form.verb, text))).split())[:_MOST_DETAIL]


def _diagnoses(recipients: Any) -> Iterator[str]:
    for one in recipients if isinstance(recipients, list) else ():
        diagnosis = one.get("diagnosticCode") if isinstance(one, dict) else None
        if isinstance(diagnosis, str):
            yield diagnosis


def _addresses(recipients: Any) -> Iterator[str]:
    """Addresses, bare or in objects; SES writes some of them as ``Name <address>``."""
    for one in recipients if isinstance(recipients, list) else ():
        address = one.get("emailAddress") if isinstance(one, dict) else one
        if isinstance(address, str):
            yield address.rpartition("<")[2].rstrip("> ").lower()[:320]


def _texts(mail: Mapping[str, Any]) -> Iterator[str]:
    """Where keys may stand: the headers that the sender wrote, and the tags that it gave."""
    headers = mail.get("headers")
    for header in headers if isinstance(headers, list) else ():
        if isinstance(header, dict):
            yield f"{header.get('name')}: {header.get('value')}"[:_MOST_CHARACTERS]
    for name, values in mapping(mail, "tags").items():
        for value in values if isinstance(values, list) and not name.startswith("ses:") else ():
            yield str(value)[:_MOST_CHARACTERS]
