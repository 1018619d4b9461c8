"""What the publishing API accepts, as pydantic models: their errors are the API's own 422s."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import UUID4, AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from prober.model import PublicationKind

_REFUSED_DOMAINS = ("test", "invalid", "local", "localhost")


def _email(address: str) -> str:
    local, _, domain = address.rpartition("@")
    labels = domain.lower().split(".")
    if not local or any(character.isspace() for character in address) or not all(labels):
        raise ValueError("value is not a valid email address")
    try:
        ipaddress.ip_address(domain.strip("[]").removeprefix("IPv6:"))
    except ValueError:
        literal = False
    else:
        literal = True
    if literal or labels[-1] in _REFUSED_DOMAINS or len(labels) < 2:
        raise ValueError("value is not a valid email address: a special-use or reserved domain cannot be used")
    return address


def _past_text(value: object) -> object:
    """Times are text only: a number would be read as seconds or milliseconds, whichever fits."""
    if not isinstance(value, (str, datetime, type(None))):
        raise ValueError("a datetime in ISO 8601 is expected")
    return value


def wall_of(time: datetime) -> float:
    """Seconds since 1970; a time without a zone is in UTC."""
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


Email = Annotated[str, Field(max_length=320), AfterValidator(_email)]
Time = Annotated[datetime, BeforeValidator(_past_text)]
Channels = Annotated[list[UUID4], Field(min_length=1, max_length=10)]


class PublicationBody(BaseModel):
    channels: Channels
    publication_type: PublicationKind
    content_ids: Annotated[list[UUID4], Field(max_length=100)] | None = None
    scheduled_time: Time | None = None
    personalization_rules: dict[str, Any] = {}
    template_id: UUID4 | None = None


class ChangeBody(BaseModel):
    scheduled_time: Time | None = None
    personalization_rules: dict[str, Any] | None = None


class AlertBody(BaseModel):
    """The channels may be called ``target_channels`` (a running build) or ``channels`` (the documentation)."""

    content_id: UUID4
    target_channels: Annotated[list[UUID4], Field(min_length=1, max_length=5)] | None = None
    channels: Annotated[list[UUID4], Field(min_length=1, max_length=5)] | None = None
    priority: Literal["low", "medium", "high", "critical"] = "medium"
    template_id: UUID4 | None = None
    personalization_rules: dict[str, Any] = {}

    @model_validator(mode="after")
    def _some_channels(self) -> Self:
        if not (self.target_channels or self.channels):
            raise ValueError("target_channels: Field required")
        return self

    @property
    def wanted(self) -> list[UUID]:
        return self.target_channels or self.channels or []


class ChannelBody(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    channel_type: Literal["email", "slack", "discord", "webhook", "rss"]
    configuration: dict[str, Any] = {}
    is_active: bool = True


class SubscriberBody(BaseModel):
    email: Email
    user_id: str | None = None
    preferred_channels: list[UUID4] = []
    topic_interests: dict[str, Annotated[float, Field(ge=0, le=1)]] = {}
    frequency_settings: dict[str, Any] = {}


class SubscriberChange(BaseModel):
    preferred_channels: list[UUID4] | None = None
    topic_interests: dict[str, Annotated[float, Field(ge=0, le=1)]] | None = None
    frequency_settings: dict[str, Any] | None = None
    status: Literal["active", "paused", "unsubscribed"] | None = None


class TestBody(BaseModel):
    test_email: Email | None = None


class EmailBody(BaseModel):
    to_email: Email
    subject: Annotated[str, Field(max_length=500)] = ""
    custom_message: Annotated[str, Field(max_length=10_000)] = ""


class ListQuery(BaseModel):
    status: str | None = None
    channel_type: str | None = None
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    offset: Annotated[int, Field(ge=0)] = 0
