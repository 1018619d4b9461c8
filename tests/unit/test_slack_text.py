"""What a Slack message says: every place of text, decoded, bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slack_sdk.errors import SlackApiError, SlackClientNotConnectedError

from prober.observers.slack_connection import unreadable
from prober.observers.slack_text import (
    CONTROL_TEXT,
    MOST_CHARACTERS,
    MOST_TEXTS,
    is_blank,
    is_control,
    is_ordinary,
    message_texts,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "messages" / "slack"


def recorded(name: str) -> dict[str, Any]:
    message: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return message


def test_entities_and_links_are_read_as_a_person_reads_them() -> None:
    """The label stands in the sentence, the link beside it, and Slack's three entities are characters again."""
    texts = message_texts(recorded("incoming_webhook"))
    assert texts[0] == "Issue 12 is out: read it <now> & here"
    assert "https://publishing.example/content/3f1c?a=1&b=2" in texts


def test_blocks_give_every_text_and_link() -> None:
    """Headers, sections, buttons and rich text are all searched, and a link within a link is percent-decoded."""
    texts = message_texts(recorded("bot_blocks"))
    assert {"Digest", "Weekly digest", "*Top story* open", "Open", "rich ", "link"} <= set(texts)
    assert "https://publishing.example/content/button" in texts
    assert "https://publishing.example/content/rich" in texts
    assert any(text.endswith("url=https://publishing.example/content/9a?m=1") for text in texts)
    assert "mrkdwn" not in texts


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alertmanager_attachment", {"[FIRING:1] ProbeAlert", "severity: critical", "k3f7q2"}),
        ("metadata", {"Plain text", "hidden-carrier", "one", "two"}),
        ("file_share", {"Report for March", "report.pdf"}),
    ],
)
def test_other_carriers_are_read(name: str, expected: set[str]) -> None:
    """Attachments, metadata and file titles carry text too."""
    assert expected <= set(message_texts(recorded(name)))


@pytest.mark.parametrize(
    ("name", "ordinary"),
    [
        ("incoming_webhook", True),
        ("bot_blocks", True),
        ("file_share", True),
        ("thread_broadcast", False),
        ("thread_reply", False),
        ("message_changed", False),
        ("channel_join", False),
        ("content_withheld", True),
    ],
)
def test_only_what_a_person_first_sees_on_the_channel_is_ordinary(name: str, ordinary: bool) -> None:
    """Edits, joins, replies in threads and their broadcasts are no first sightings."""
    assert is_ordinary(recorded(name)) is ordinary


def test_blank_is_only_a_message_without_any_content() -> None:
    """An attachment or a file is content; nothing at all, from a person or an app, is withheld content."""
    assert is_blank(recorded("content_withheld"))
    assert is_blank({"type": "message", "subtype": "bot_message", "text": ""})
    assert not any(is_blank(recorded(name)) for name in ("alertmanager_attachment", "file_share", "channel_join"))


def test_a_control_message_is_known_by_its_author_and_its_text() -> None:
    """Somebody else's copy of the text, and our bot's other words, are no control messages."""
    assert message_texts({"text": CONTROL_TEXT}) == (CONTROL_TEXT,)
    assert not any(character.isdigit() for character in CONTROL_TEXT)
    own = frozenset({"B1", "U1"})
    assert is_control({"bot_id": "B1", "text": CONTROL_TEXT}, own)
    assert not is_control({"bot_id": "B2", "text": CONTROL_TEXT}, own)
    assert not is_control({"bot_id": "B1", "text": "hello"}, own)


def test_texts_are_bounded() -> None:
    """A hostile message costs neither more characters, nor more texts, nor more depth than the bounds."""
    nested: Any = "too deep"
    for _ in range(500):
        nested = [nested]
    wide = [f"text {number}" for number in range(MOST_TEXTS * 3)]
    assert message_texts({"text": "top", "blocks": nested}) == ("top",)
    assert len(message_texts({"blocks": wide})) == MOST_TEXTS
    assert sum(map(len, message_texts({"blocks": ["x" * 1000 + str(n) for n in range(5000)]}))) <= MOST_CHARACTERS


_text = st.text("<>|&amp;lt:/%20x", max_size=12)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=10,
)
_parts = st.sampled_from(["text", "blocks", "attachments", "metadata", "files", "subtype", "bot_id", "user", "ts"])


@settings(deadline=None)
@given(st.dictionaries(_parts, _json, max_size=9))
def test_any_json_is_survived(message: dict[str, Any]) -> None:
    """Whatever stands in a message, reading it gives texts and no error."""
    assert all(isinstance(text, str) for text in message_texts(message))
    assert is_ordinary(message) in {True, False}
    assert is_control(message, frozenset({"B1"})) is False
    assert is_blank(message) in {True, False}


class _Answer:
    def __init__(self, status: int, data: Any, headers: dict[str, str] | None = None) -> None:
        self.status_code = status
        self.data = data
        self.headers = headers or {}


def _refused(status: int, data: Any, headers: dict[str, str] | None = None) -> Exception:
    untyped: Any = SlackApiError
    error: Exception = untyped("", _Answer(status, data, headers))
    return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (_refused(200, {"ok": False, "error": "token_revoked"}), "auth"),
        (_refused(200, {"error": "missing_scope", "needed": "channels:history"}), "missing_scope"),
        (_refused(200, {"ok": False, "error": "channel_not_found"}), "not_in_channel"),
        (_refused(200, {"ok": False, "error": "fatal_error"}), "unreachable"),
        (_refused(200, {"ok": False, "error": "request_timeout"}), "timeout"),
        (_refused(200, {"ok": False, "error": "never heard of"}), "protocol"),
        (_refused(429, {}, {"Retry-After": "x"}), "rate_limited"),
        (_refused(503, "down"), "unreachable"),
        (_refused(200, b""), "protocol"),
        (SlackClientNotConnectedError(), "protocol"),
        (TimeoutError(), "timeout"),
        (aiohttp.ServerDisconnectedError(), "unreachable"),
        (aiohttp.ClientPayloadError(), "unreachable"),
        (ConnectionResetError(), "unreachable"),
        (AttributeError("'str' object has no attribute 'get'"), "protocol"),
        (json.JSONDecodeError("", "", 0), "protocol"),
    ],
)
def test_each_foreign_error_has_a_reason(error: Exception, reason: str) -> None:
    """No error of slack_sdk or aiohttp is left without one of the closed reasons and a sentence."""
    told = unreadable(error, "conversations.history of slack")
    assert told.reason == reason
    assert told.detail.startswith("conversations.history of slack: ")


def test_a_missing_scope_is_named_with_its_mend() -> None:
    """The detail names the scope to add."""
    error = _refused(200, {"ok": False, "error": "missing_scope", "needed": "groups:history"})
    assert "groups:history" in unreadable(error, "x").detail
