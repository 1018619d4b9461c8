"""How to reach one Slack app, and what Slack lets it do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, model_validator

from prober.durations import parse_duration


@dataclass(frozen=True, slots=True)
class Tier:
    """What Slack lets one app read by ``conversations.history``.

    ``calls_per_minute`` is what we allow ourselves, ``page`` how many messages an answer may hold, ``calls_at_once``
    how many calls one read makes (None: as many as it needs). ``looks``: seconds before each look for a control
    message that was just posted. ``poll``: seconds between reads where nothing is pushed.
    """

    calls_per_minute: float
    page: int
    calls_at_once: int | None
    looks: tuple[float, ...]
    poll: float


TIERS: Final[Mapping[str, Tier]] = {
    "internal": Tier(45.0, 200, None, (0.0, 0.1, 0.4, 1.5), 5.0),
    "distributed": Tier(1.0, 15, 1, (2.0,), 60.0),
}
"""Slack's limits by how an app is distributed (docs.slack.dev, apis/web-api/rate-limits, and the page of
conversations.history): one that a customer built for its own workspace, or one of the Marketplace, has tier 3, 50
calls a minute and more, per app and workspace; one that is distributed commercially outside the Marketplace 1 call a
minute with 15 messages, since 29 May 2025."""


def _seconds(value: Any) -> Any:
    return value if value is None else parse_duration(value)


class SlackSettings(BaseModel):
    """One Slack app of the prober's own.

    ``delete_token`` is that of somebody who may delete the product's messages: a bot deletes only its own.
    ``mode``: ``socket`` for pushes by Socket Mode, ``web`` for the Web API alone, which needs no ``app_token``.
    ``tier``: what Slack lets the app read, see TIERS. ``poll`` is the period of reads in seconds or as ``5s``; in mode
    ``web`` it follows from the tier unless given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    bot_token: SecretStr
    app_token: SecretStr | None = None
    delete_token: SecretStr | None = None
    mode: Literal["socket", "web"] = "socket"
    tier: Literal["internal", "distributed"] = "internal"
    api_url: str = "https://slack.com/api/"
    poll: Annotated[float | None, BeforeValidator(_seconds)] = None

    @property
    def pushes(self) -> bool:
        return self.mode == "socket" and self.app_token is not None

    @property
    def limits(self) -> Tier:
        return TIERS[self.tier]

    @property
    def period(self) -> float | None:
        """Seconds between reads while something is awaited; None where pushes and aligned reads are enough."""
        return self.limits.poll if self.poll is None and not self.pushes else self.poll

    @model_validator(mode="after")
    def _reads_somehow(self) -> Self:
        if self.mode == "socket" and not self.pushes and not self.poll:
            raise ValueError("without app_token nothing is pushed: give it, or write mode: web, or poll such as 5s")
        return self
