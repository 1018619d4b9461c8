"""What a delivered message looks like in each kind of place."""

from __future__ import annotations

import html
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

from prober.model import PublicationKind
from prober.sandbox.records import Outgoing

SITE = "https://publishing.example"
JUNK_HEADER = "X-Sandbox-Folder"
GENERIC_SUBJECT = "News from Publishing"
GENERIC_TEXT = "There is something new to read."
UNRENDERED = "{{ content.body }}"
"""What a damaged message shows instead of its text: a template that was never filled in."""


def content_links(message: Outgoing) -> tuple[str, ...]:
    return tuple(f"{SITE}/content/{content_id}" for content_id in message.content_ids)


def click_links(message: Outgoing) -> tuple[str, ...]:
    """The content links as the system sends them: through its click tracking."""
    track = f"{SITE}/analytics/engagement/track/click?publication_id={message.publication_id}&url="
    return tuple(track + quote(link, safe="") for link in content_links(message) or (SITE,))


def unsubscribe_link(message: Outgoing) -> str:
    """The one-click unsubscribe link of a newsletter, "" for everything else."""
    if message.publication_kind is not PublicationKind.NEWSLETTER:
        return ""
    return f"{SITE}/unsubscribe?publication_id={message.publication_id}&email={quote(message.address)}"


def body(message: Outgoing) -> str:
    """The text that a person reads."""
    return UNRENDERED if message.damaged else message.text


def plain_text(message: Outgoing) -> str:
    """The whole message as plain text with its links."""
    lines = [body(message), "", *content_links(message), *click_links(message)]
    if link := unsubscribe_link(message):
        lines += ["", f"Unsubscribe: {link}"]
    return "\n".join(lines) + "\n"


def _markup(message: Outgoing) -> str:
    paragraphs = "".join(f"<p>{html.escape(line)}</p>\n" for line in body(message).splitlines() if line.strip())
    links = "".join(f'<p><a href="{html.escape(click)}">Read it</a></p>\n' for click in click_links(message)) + "".join(
        f'<p><a href="{html.escape(link)}">{html.escape(link)}</a></p>\n' for link in content_links(message)
    )
    pixel = html.escape(f"{SITE}/analytics/engagement/track/open?publication_id={message.publication_id}&pixel=1")
    leave = html.escape(unsubscribe_link(message))
    footer = f'<p><a href="{leave}">Unsubscribe</a></p>\n' if leave else ""
    return f'<html><body>\n{paragraphs}{links}{footer}<img src="{pixel}" width="1" height="1">\n</body></html>\n'


def mail(message: Outgoing, sender: str, wall: float) -> bytes:
    """The message as a mail: text and HTML, both quoted-printable, as the system hands it to SES."""
    letter = EmailMessage(policy=SMTP)
    letter["From"] = f"Publishing <{sender}>"
    letter["To"] = message.address
    letter["Subject"] = message.subject
    letter["Date"] = format_datetime(datetime.fromtimestamp(wall, UTC))
    letter["Message-ID"] = f"<{message.message_id}@email.amazonses.com>"
    letter["X-SES-Outgoing"] = "sandbox"
    if link := unsubscribe_link(message):
        letter["List-Unsubscribe"] = f"<{link}>"
        letter["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    if message.junk:
        letter[JUNK_HEADER] = "Junk"
    letter.set_content(plain_text(message), cte="quoted-printable")
    letter.add_alternative(_markup(message), subtype="html", cte="quoted-printable")
    return letter.as_bytes()


def slack(message: Outgoing) -> tuple[str, list[dict[str, Any]]]:
    """The message as Slack's text and blocks."""
    links = "\n".join(f"<{_slack_text(click)}|Read it>" for click in click_links(message))
    plain = "\n".join(f"<{_slack_text(link)}>" for link in content_links(message))
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": message.subject[:150] or "News"}},
        {"type": "section", "text": {"type": "mrkdwn", "text": _slack_text(body(message))[:3000] or " "}},
        {"type": "section", "text": {"type": "mrkdwn", "text": f"{links}\n{plain}".strip()[:3000]}},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": f"publication {message.publication_id}"}]},
    ]
    return f"{_slack_text(message.subject)}: {_slack_text(body(message))}", blocks


def discord(message: Outgoing) -> tuple[str, list[dict[str, Any]]]:
    """The message as Discord's content and embeds."""
    links = [*content_links(message), *click_links(message)]
    embed = {
        "type": "rich",
        "title": message.subject[:256],
        "description": f"{body(message)}\n\n{chr(10).join(links)}"[:4096],
        "url": click_links(message)[0],
        "footer": {"text": f"publication {message.publication_id}"},
    }
    return message.subject[:2000], [embed]


def _slack_text(text: str) -> str:
    """Slack's three escapes."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
