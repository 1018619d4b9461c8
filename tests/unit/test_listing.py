"""What ``prober list`` says of the scenarios."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prober.cli.listing import Listed, listing_lines
from prober.config import Settings
from prober.limits_form import LimitSettings
from prober.model import Arrive, Channel, ChannelKind, Content, PublicationKind, Scenario, Schedule
from prober.report.lines import line_cells, plain

ALERT = Scenario(
    "alert-latency",
    "A critical alert reaches e-mail, Slack and Discord within 30 seconds.",
    PublicationKind.ALERT,
    ("email", "slack"),
    30.0,
    120.0,
    Content("alert", "probe-alert", "A probe", "Nothing to do."),
    priority="critical",
    schedule=Schedule(every=60.0),
    tags=frozenset({"smoke"}),
)
CHANNELS = (
    Channel("inbox-1", ChannelKind.EMAIL, "mailbox", "probe@inbox.example"),
    Channel("slack", ChannelKind.SLACK, "chat", "C0PROBE"),
)
SETTINGS = Settings(
    "staging",
    "here",
    (),
    None,
    {},
    {channel.name: channel for channel in CHANNELS},
    (),
    "",
    LimitSettings(),
    {},
    "staging.yaml",
)


def shown(one: Listed, settings: Settings | None = None, width: int = 80) -> list[str]:
    return [plain(line) for line in listing_lines([one], settings, width)]


def test_a_scenario_says_what_it_promises() -> None:
    """Without a configuration a scenario shows what it publishes, watches and promises, and when it runs."""
    assert shown(Listed(ALERT, None)) == [
        "alert-latency  #smoke",
        "  A critical alert reaches e-mail, Slack and Discord within 30 seconds.",
        "  publishes  alert, critical",
        "  watches    email, slack",
        "  promises   within 30s; given up after 2m",
        "  runs       every 1m",
        "",
        "No configuration here: prober run uses the embedded sandbox.",
    ]


def test_a_configuration_names_the_channels() -> None:
    """With a configuration the channels stand there by name, with their kind where the name does not say it."""
    lines = shown(Listed(ALERT, CHANNELS), SETTINGS)
    assert "  watches    inbox-1 (email), slack" in lines
    assert lines[-1] == "The channels are those of staging.yaml."


def test_what_cannot_be_used_says_why() -> None:
    """A scenario for which channels are missing is listed all the same, with the trouble and its mend."""
    lines = shown(Listed(ALERT, None, "'email' asks for one more email channel than the 0 configured"), SETTINGS)
    assert "  unusable   'email' asks for one more email channel than the 0 configured" in lines


def test_a_scenario_that_must_not_arrive_says_so() -> None:
    """A cancelled publication promises silence, by cron or on demand."""
    never = replace(
        ALERT, kind=PublicationKind.NEWSLETTER, priority="", arrive=Arrive.NEVER, scheduled_after=10.0,
        cancel_after=5.0, schedule=Schedule(cron="*/5 * * * *", time_zone="Europe/Berlin"),
    )  # fmt: skip
    lines = shown(Listed(never, None))
    assert "  publishes  newsletter, scheduled 10s ahead" in lines
    assert "  promises   cancelled after 5s, never arrives; watched for 2m" in lines
    assert "  runs       */5 * * * * Europe/Berlin" in lines
    assert "  runs       on demand" in shown(Listed(replace(ALERT, schedule=Schedule()), None))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_listing_fits_the_width(width: int) -> None:
    """No line is wider than the terminal, however long the names and the trouble."""
    long = replace(ALERT, description="A promise. " * 30)
    lines = listing_lines([Listed(long, CHANNELS * 9, "a trouble " * 20)], SETTINGS, width)
    assert max(map(line_cells, lines)) <= width
