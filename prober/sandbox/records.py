"""The nouns of the sandbox's publishing system: what it keeps, what it sends, how it says no."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from prober.model import ChannelKind, PublicationKind

TEMPLATES = uuid5(NAMESPACE_URL, "https://publishing.example/templates")
"""The namespace of the templates' ids."""

DISCORD_EPOCH = 1_420_070_400


class Rejected(Exception):
    """The world says no: an HTTP status, a title and a detail; ``location`` is the field, for a 422."""

    def __init__(self, status: int, title: str, detail: str, location: tuple[str | int, ...] = ()) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.location = location


class DeliveryFailed(Exception):
    """A provider did not take a message. ``passing`` says whether another try makes sense."""

    def __init__(self, detail: str, *, passing: bool) -> None:
        super().__init__(detail)
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Place:
    """One channel of the world: where its messages become visible, and the target channel that feeds it."""

    name: str
    kind: ChannelKind
    address: str
    target_channel: str


@dataclass(slots=True)
class TargetChannel:
    """The publishing system's own channel object."""

    id: str
    name: str
    kind: str
    configuration: dict[str, Any]
    is_active: bool = True


@dataclass(slots=True)
class Subscriber:
    """Somebody who gets the mail of the target channels in ``preferred_channels``."""

    id: str
    email: str
    preferred_channels: tuple[str, ...]
    status: str = "active"
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Order:
    """What a caller asks to publish. ``scheduled_time`` is wall seconds since 1970, None for at once."""

    kind: PublicationKind
    channels: tuple[str, ...]
    content_ids: tuple[str, ...] = ()
    scheduled_time: float | None = None
    template_id: str = ""
    priority: str = ""
    personalization: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class ChannelResult:
    """What the system says of one target channel; its own word, never proof."""

    status: str = "pending"
    delivered_at: float | None = None
    error: str | None = None
    recipients: int = 0


@dataclass(slots=True)
class Record:
    """One publication or alert, from its creation on. Times are wall seconds since 1970."""

    id: str
    order: Order
    created_at: float
    updated_at: float
    status: str
    results: dict[str, ChannelResult]
    scheduled_time: float | None = None
    published_time: float | None = None
    error: str | None = None
    generation: int = 0
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message on its way to one address."""

    place: str
    kind: ChannelKind
    address: str
    target_channel: str
    publication_id: str
    publication_kind: PublicationKind
    content_ids: tuple[str, ...]
    subject: str
    text: str
    message_id: str
    damaged: bool = False
    junk: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One request that reached the publishing system, for counting what was asked twice.

    ``at`` is wall seconds; ``status`` what it was answered: 0 for a reset, -1 for silence; ``effect`` whether
    something came of it.
    """

    at: float
    action: str
    status: int
    effect: bool
    publication_id: str = ""
    probe: str = ""
    idempotency_key: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


def uuid4_from(*parts: str) -> str:
    """A UUID of version 4's form that follows from its parts."""
    return str(UUID(bytes=hashlib.sha256("\0".join(parts).encode()).digest()[:16], version=4))


def template_id(name: str) -> str:
    """The id of the template of this name: the uuid5 of the name, in version 4's form, as the API demands."""
    return str(UUID(bytes=uuid5(TEMPLATES, name).bytes, version=4))


def snowflake_from(*parts: str, wall: float) -> str:
    """A Discord snowflake made at ``wall`` whose low 22 bits follow from the parts."""
    low = int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:4], "big") & 0x3FFFFF
    return str((int((wall - DISCORD_EPOCH) * 1000) << 22) | low)


def mail_domain(world_id: str) -> str:
    return f"{world_id}.sandbox.example"


def sender_address(world_id: str) -> str:
    """From whom the world's mail comes."""
    return f"news@{mail_domain(world_id)}"


def standard_places(world_id: str, wall: float) -> tuple[Place, ...]:
    """The sandbox's four channels. Every address follows from the world's id, so a new world has new ones."""
    domain = mail_domain(world_id)
    addresses = (
        ("email", ChannelKind.EMAIL, f"inbox-1@{domain}"),
        ("email-2", ChannelKind.EMAIL, f"inbox-2@{domain}"),
        ("slack", ChannelKind.SLACK, f"C0{world_id.upper()}"),
        ("discord", ChannelKind.DISCORD, snowflake_from(world_id, "channel", wall=wall)),
    )
    return tuple(Place(name, kind, address, uuid4_from(world_id, name)) for name, kind, address in addresses)


def aws_place(world_id: str) -> Place:
    """The channel that is there only with AWS: an inbox that SES puts into a bucket."""
    address = f"inbox-3@{mail_domain(world_id)}"
    return Place("email-s3", ChannelKind.EMAIL, address, uuid4_from(world_id, "email-s3"))
