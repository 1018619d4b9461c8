"""What a Discord message's JSON says: its texts, its sender, its time, whether its content was withheld."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prober.clock import Instant
from prober.model import How
from prober.observers.discord_text import CONTROL_TEXT, is_blanked, is_control, message_of, stamp_of, texts_of

MESSAGES = Path(__file__).parents[2] / "fixtures" / "messages" / "discord"
NOW = Instant(1_733_000_000.0, 10.0, "boot")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
FIELDS = (
    *("id", "type", "flags", "author", "webhook_id", "content", "embeds", "attachments", "components"),
    *("poll", "stickers", "sticker_items", "message_snapshots", "activity"),
)


def recorded(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((MESSAGES / f"{name}.json").read_text())
    return loaded


@pytest.mark.parametrize(
    "text",
    [
        "**Service notice** see [the page](https://publishing.example/content/7f3c?ref=a/b)",
        "Embed title",
        "Embed description",
        "https://publishing.example/track?url=https://example.org/key",
        "https://publishing.example/track?url=https%3A%2F%2Fexample.org%2Fkey",
        "Field name",
        "Field value",
        "Footer text",
        "Author name",
        "https://publishing.example/author",
        "Button label",
        "https://publishing.example/button",
        "Text display",
        "status-report.txt",
        "the full report",
    ],
)
def test_every_text_of_a_message_is_found(text: str) -> None:
    """Content, embeds, components and attachments' names are texts; links also percent-decoded."""
    assert text in texts_of(recorded("webhook"))


def test_a_webhook_message_is_known_by_its_webhook_and_its_snowflake() -> None:
    """The sender is the webhook; id and stamp are the snowflake's."""
    message = message_of(recorded("webhook"), "discord", NOW, How.PUSH)
    assert (message.sender, message.id, message.fingerprint) == (
        "1290000000000000004",
        "1312345678901234567",
        "1312345678901234567",
    )
    assert message.stamp == stamp_of("1312345678901234567")
    assert (message.seen, message.how, message.recipients) == (NOW, How.PUSH, ())


def test_a_snowflake_tells_its_instant() -> None:
    """Discord's documented example id is of 2016-04-30 11:18:25.796 UTC, to the millisecond."""
    stamp = stamp_of("175928847299117063")
    assert (round(stamp.at, 3), stamp.resolution, stamp.source) == (1462015105.796, 0.001, "discord")


@pytest.mark.parametrize(
    ("name", "changes", "blanked"),
    [
        ("withheld", {}, True),
        ("withheld", {"type": 19}, True),
        ("withheld", {"type": 7}, False),
        ("withheld", {"flags": 128}, False),
        ("withheld", {"activity": {"type": 3}}, False),
        ("withheld", {"content": "x"}, False),
        ("withheld", {"embeds": [{}]}, False),
        ("withheld", {"attachments": [{}]}, False),
        ("withheld", {"components": [{}]}, False),
        ("withheld", {"sticker_items": [{}]}, False),
        ("withheld", {"poll": {"question": {}}}, False),
        ("forwarded", {}, False),
        ("forwarded", {"message_snapshots": [{"message": {"content": ""}}]}, True),
        ("webhook", {}, False),
    ],
)
def test_withheld_content_is_told_from_what_is_empty_by_nature(
    name: str, changes: dict[str, Any], blanked: bool
) -> None:
    """Only an ordinary message with nothing at all in it was blanked."""
    assert is_blanked({**recorded(name), **changes}) is blanked


def test_a_forwarded_text_is_read() -> None:
    """A forwarded message's text stands in its snapshot."""
    assert "Forwarded text" in texts_of(recorded("forwarded"))


def test_only_the_bare_control_text_is_a_control_message() -> None:
    """A message that quotes the control text, or carries more, is not dropped."""
    assert is_control({"content": CONTROL_TEXT, "embeds": []})
    assert not is_control({"content": f"{CONTROL_TEXT} abc"})
    assert not is_control({"content": CONTROL_TEXT, "embeds": [{"title": "key"}]})


def test_texts_are_bounded() -> None:
    """A huge, wide or deep message costs a bounded amount of text."""
    deep: Any = "bottom"
    for _ in range(500):
        deep = [deep]
    wide = [{"title": f"title {number}"} for number in range(10_000)]
    texts = texts_of({"content": "x" * 1_000_000, "embeds": wide, "components": deep})
    assert sum(map(len, texts)) <= 256 * 1024
    assert len(texts_of({"embeds": wide})) == 2_000
    assert "bottom" not in texts_of({"components": deep})


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, ANYTHING)))
def test_no_message_is_too_strange(payload: dict[str, Any]) -> None:
    """Whatever JSON stands where a message's fields should, reading it raises nothing."""
    is_blanked(payload)
    is_control(payload)
    assert message_of({**payload, "id": "175928847299117063"}, "discord", NOW, How.POLL).texts == texts_of(payload)
