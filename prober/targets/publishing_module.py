"""The Publishing Module as a target: its HTTP API, in the documented and in the seen dialect, without a switch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import field_validator

from prober.clean_up import Removal
from prober.clock import Clock, rfc3339
from prober.errors import OwnFault
from prober.findings import Examined
from prober.model import Answer, ChannelKind, Publication, PublicationKind, Step, StepAction, Waypoint
from prober.safety import Inventory, TargetChannel, TargetSubscriber
from prober.targets.access import Access, AccessSettings, ensure_allowed, ensure_one_recipient, marks
from prober.targets.http_client import Reply
from prober.targets.publishing_answers import claims_of, health_of, read_answer, withdrawal_of
from prober.targets.publishing_examination import examine_target
from prober.targets.publishing_inventory import (
    make_channel,
    make_subscriber,
    read_inventory,
    refused_address,
    subscribe,
)
from prober.targets.replies import uuid_in


class PublishingModuleSettings(AccessSettings):
    """The target's part of the configuration.

    ``send: test`` asks whoever plans for a second step that mails one test address. ``personalize`` lets the marker
    travel in ``personalization_rules``.
    """

    adapter: Literal["publishing_module"] = "publishing_module"
    send: Literal["create", "test"] = "create"
    personalize: bool = False

    @field_validator("channels")
    @classmethod
    def _lower_ids(cls, channels: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(channel.lower() for channel in channels)


class PublishingModule:
    """The target behind one URL. Entered as an async context manager.

    Constructing it raises ConfigurationError for a ``ca_file`` and OwnFault for a token that cannot be used.
    """

    def __init__(self, settings: PublishingModuleSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._access = Access(settings, clock)
        self.acts = self._access.acts
        self._health_url = f"{settings.url}/health"

    async def __aenter__(self) -> Self:
        await self._access.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._access.__aexit__(kind, error, trace)

    async def take(self, step: Step, publication: Publication) -> Answer:
        """Send the step's request once and never again; return what was accepted.

        Raises Refused, Unanswered, Unreachable or OwnFault.
        """
        method, path, payload = draft_request(self._settings, step, publication)
        headers = marks(step, publication)
        return read_answer(step, await self._ask(method, f"{self._settings.url}{path}", headers, payload))

    def announce(self, step: Step, publication: Publication) -> str:
        """See :class:`prober.targets.Announcing`."""
        method, path, _ = draft_request(self._settings, step, publication)
        return f"{method} {self._settings.url}{path}"

    async def claims(self, publication_id: str) -> tuple[Waypoint, ...]:
        """What the target says about a publication or an alert: waypoints on its clock, never proof.

        Raises Refused (404: it knows neither), Unanswered, Unreachable or OwnFault.
        """
        known = _known_id(publication_id)
        reply = await self._ask("GET", f"{self._settings.url}/publications/{known}", {})
        if reply.status == 404:
            reply = await self._ask("GET", f"{self._settings.url}/alerts/{known}", {})
        return claims_of(reply)

    async def withdraw(self, publication_id: str) -> Removal:
        """Take a publication back once it has served; see :class:`prober.targets.Withdrawing`."""
        return withdrawal_of(
            await self._ask("DELETE", f"{self._settings.url}/publications/{_known_id(publication_id)}", {})
        )

    async def health(self) -> dict[str, bool | None]:
        """The dependencies that the target names: True up, False down, None neither. Ask once a minute at most.

        It stands below the prefix or at the root; no token is sent. Raises as :meth:`claims`.
        """
        reply = await self._get_health(self._health_url)
        if reply.status in (404, 405):
            root = urlsplit(self._settings.url)._replace(path="/health").geturl()
            other = await self._get_health(root)
            if other.status not in (404, 405):
                reply, self._health_url = other, root
        return health_of(reply)

    async def ask(self, method: str, path: str, payload: Mapping[str, Any] | None = None) -> Reply:
        """Any other call below the prefix, its answer of whatever status. Raises Unanswered, Unreachable, OwnFault."""
        return await self._ask(method, f"{self._settings.url}{path}", {"X-Synthetic-Probe": "prober"}, payload)

    async def inventory(self) -> Inventory:
        """The channels and subscribers that the target lists. Raises Refused, Unanswered, Unreachable or OwnFault."""
        return await read_inventory(self.ask)

    async def examine(self) -> Examined:
        """Reachability, credentials, contract, health and clock. Raises nothing that its findings can say."""
        return await examine_target(self.ask, self.health, self._clock)

    def refuses(self, address: str) -> str:
        """Why the module would never take this mail address; empty for one that it may take."""
        return refused_address(address)

    async def make_channel(self, name: str, kind: ChannelKind, place: str) -> TargetChannel | None:
        """A new channel that feeds ``place``; None when the name is taken. Raises as :meth:`inventory`."""
        return await make_channel(self.ask, name, kind, place)

    async def make_subscriber(self, address: str, channel: str) -> TargetSubscriber | None:
        """A new subscriber of one channel; None when the address is taken. Raises as :meth:`inventory`."""
        return await make_subscriber(self.ask, address, channel)

    async def subscribe(self, subscriber: TargetSubscriber, channel: str) -> None:
        """Let a subscriber get one more channel. Raises as :meth:`inventory`."""
        await subscribe(self.ask, subscriber, channel)

    async def _get_health(self, url: str) -> Reply:
        return await self._access.ask("GET", url, auth=False)

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], payload: Mapping[str, Any] | None = None
    ) -> Reply:
        if payload is None:
            return await self._access.ask(method, url, headers)
        headers = {**headers, "Content-Type": "application/json"}
        return await self._access.ask(method, url, headers, json.dumps(payload).encode())


def draft_request(
    settings: PublishingModuleSettings, step: Step, publication: Publication
) -> tuple[str, str, dict[str, Any] | None]:
    """Method, path below the prefix and JSON body of a step. Raises OwnFault for what must not leave us: another
    channel than the allowed ones, or a sending that names no single recipient."""
    if step.action is StepAction.CANCEL:
        return "DELETE", f"/publications/{_known_id(step.publication_id)}", None
    ensure_allowed([channel.lower() for channel in publication.target_channels], settings.channels)
    if step.action is StepAction.SEND:
        ensure_one_recipient(step.recipient)
        return "POST", f"/publications/{_known_id(step.publication_id)}/test", {"test_email": step.recipient}
    rules = {}
    if settings.personalize and publication.marker:
        rules = {"personalization_rules": {"probe": publication.marker}}
    channels = list(publication.target_channels)
    # An alert as such can neither be scheduled nor sent to one address: it then goes as a publication of that type.
    plain = publication.scheduled_time is None and settings.send == "create"
    if publication.kind is PublicationKind.ALERT and plain:
        fields = {"content_id": publication.content_id, "target_channels": channels, "channels": channels}
        return "POST", "/alerts", {**fields, "priority": publication.priority or "critical", **rules}
    payload: dict[str, Any] = {
        "channels": channels,
        "publication_type": publication.kind.value,
        "content_ids": [publication.content_id],
        **rules,
    }
    if publication.template_id:
        payload["template_id"] = publication.template_id
    if publication.scheduled_time is None:
        return "POST", "/publications", payload
    payload["scheduled_time"] = rfc3339(publication.scheduled_time)
    newsletter = publication.kind is PublicationKind.NEWSLETTER
    return "POST", "/publications/newsletter/schedule" if newsletter else "/publications", payload


def _known_id(publication_id: str) -> str:
    known = uuid_in(publication_id)
    if not known:
        raise OwnFault("a step without the publication's id", "the target has not told one")
    return known
