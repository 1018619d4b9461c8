"""The publishing API's calls: from a request's body through the world to the answer's data."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import uuid4

from aiohttp import web
from pydantic import BaseModel

from prober.model import ChannelKind, PublicationKind
from prober.sandbox.api_bodies import (
    AlertBody,
    ChangeBody,
    ChannelBody,
    EmailBody,
    ListQuery,
    PublicationBody,
    SubscriberBody,
    SubscriberChange,
    TestBody,
    wall_of,
)
from prober.sandbox.dialects import Dialect, Json, answer
from prober.sandbox.records import Order, Outgoing, Record, Rejected, Subscriber, TargetChannel
from prober.sandbox.world import World

_Body = TypeVar("_Body", bound=BaseModel)
_SECRETS = ("token", "secret", "password", "webhook")
PUBLICATION = web.RequestKey("publication", str)
"""Where a call leaves the id of the publication that it was about, for the record of requests."""

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Routes:
    """All calls of the API in one dialect, over one world."""

    def __init__(self, world: World, dialect: Dialect) -> None:
        self._world = world
        self._dialect = dialect
        self._started = world.clock.now()

    def table(self) -> tuple[tuple[str, str, Handler], ...]:
        """Method, path below the prefix, handler."""
        return (
            ("GET", "/", self.root),
            ("POST", "/publications", self.create),
            ("GET", "/publications", self.list_publications),
            ("POST", "/publications/newsletter/schedule", self.schedule_newsletter),
            ("GET", "/publications/{id}", self.show),
            ("PUT", "/publications/{id}", self.change),
            ("DELETE", "/publications/{id}", self.cancel),
            ("POST", "/publications/{id}/retry", self.retry),
            ("POST", "/publications/{id}/test", self.test),
            ("POST", "/alerts", self.create_alert),
            ("GET", "/alerts/{id}", self.show_alert),
            ("POST", "/channels", self.create_channel),
            ("GET", "/channels", self.list_channels),
            ("GET", "/channels/{id}", self.show_channel),
            ("POST", "/channels/{id}/test", self.test_channel),
            ("POST", "/subscribers", self.create_subscriber),
            ("GET", "/subscribers", self.list_subscribers),
            ("GET", "/subscribers/{id}", self.show_subscriber),
            ("PUT", "/subscribers/{id}", self.change_subscriber),
            ("POST", "/email/test", self.email_test),
        )

    # --- publications ----------------------------------------------------------------------------------------

    async def root(self, request: web.Request) -> web.Response:
        return self._ok({"service": "publishing", "status": "ok"})

    async def create(self, request: web.Request) -> web.Response:
        return self._publish(request, await _read(request, PublicationBody))

    async def schedule_newsletter(self, request: web.Request) -> web.Response:
        return self._publish(request, await _read(request, PublicationBody, publication_type="newsletter"))

    async def list_publications(self, request: web.Request) -> web.Response:
        query = ListQuery.model_validate(dict(request.query))
        found = [record for record in self._world.records.values() if self._asked(record, query)]
        page = found[query.offset : query.offset + query.limit]
        data = {"publications": [self._publication(record) for record in page], "total_count": len(found)}
        return self._ok({**data, "limit": query.limit, "offset": query.offset})

    async def show(self, request: web.Request) -> web.Response:
        return self._ok(self._publication(self._world.find(request.match_info["id"])))

    async def change(self, request: web.Request) -> web.Response:
        body = await _read(request, ChangeBody)
        record = self._world.find(request.match_info["id"])
        if body.scheduled_time is not None:
            self._world.reschedule(record.id, wall_of(body.scheduled_time))
        return self._ok(self._publication(record))

    async def cancel(self, request: web.Request) -> web.Response:
        record = self._world.cancel(request.match_info["id"])
        request[PUBLICATION] = record.id
        return self._deleted({"id": record.id, "status": record.status})

    async def retry(self, request: web.Request) -> web.Response:
        return self._ok(self._publication(self._world.retry(request.match_info["id"])))

    async def test(self, request: web.Request) -> web.Response:
        body = await _read(request, TestBody)
        record = self._world.find(request.match_info["id"])
        request[PUBLICATION] = record.id
        addresses = [body.test_email] if body.test_email else self._readers(record)
        results = [_sent(self._world.send_one(record, address)) for address in addresses]
        counts = {"total_subscribers": len(results), "successful": len(results), "failed": 0}
        return self._ok({"publication_id": record.id, **counts, "delivery_results": results})

    async def create_alert(self, request: web.Request) -> web.Response:
        body = await _read(request, AlertBody)
        order = Order(
            kind=PublicationKind.ALERT,
            channels=tuple(str(channel) for channel in body.wanted),
            content_ids=(str(body.content_id),),
            template_id=str(body.template_id or ""),
            priority=body.priority,
            personalization=body.personalization_rules,
        )
        return self._created(request, self._world.create(order), self._alert)

    async def show_alert(self, request: web.Request) -> web.Response:
        return self._ok(self._alert(self._world.find(request.match_info["id"])))

    def _publish(self, request: web.Request, body: PublicationBody) -> web.Response:
        if self._dialect.content_ids_required and not body.content_ids:
            raise Rejected(422, "Validation error", "Field required", ("content_ids",))
        order = Order(
            kind=body.publication_type,
            channels=tuple(str(channel) for channel in body.channels),
            content_ids=tuple(str(identity) for identity in body.content_ids or ()),
            scheduled_time=wall_of(body.scheduled_time) if body.scheduled_time else None,
            template_id=str(body.template_id or ""),
            personalization=body.personalization_rules,
        )
        return self._created(request, self._world.create(order), self._publication)

    def _created(self, request: web.Request, record: Record, view: Callable[[Record], Json]) -> web.Response:
        request[PUBLICATION] = record.id
        return self._ok(view(record), self._dialect.created)

    def _asked(self, record: Record, query: ListQuery) -> bool:
        channels = (self._world.channels.get(channel) for channel in record.order.channels)
        kinds = {channel.kind for channel in channels if channel}
        return query.status in {None, record.status} and (query.channel_type is None or query.channel_type in kinds)

    def _readers(self, record: Record) -> list[str]:
        channels = (self._world.channels[channel] for channel in record.order.channels)
        mail = [channel for channel in channels if channel.kind == ChannelKind.EMAIL]
        return [address for channel in mail for address in self._world.recipients(channel)]

    # --- channels and subscribers ----------------------------------------------------------------------------

    async def create_channel(self, request: web.Request) -> web.Response:
        body = await _read(request, ChannelBody)
        channel = TargetChannel(str(uuid4()), body.name, body.channel_type, body.configuration, body.is_active)
        return self._ok(_channel(self._world.add_channel(channel)), self._dialect.created)

    async def list_channels(self, request: web.Request) -> web.Response:
        return self._ok([_channel(channel) for channel in self._world.channels.values()])

    async def show_channel(self, request: web.Request) -> web.Response:
        return self._ok(_channel(self._one_channel(request)))

    async def test_channel(self, request: web.Request) -> web.Response:
        channel = self._one_channel(request)
        addresses = self._world.recipients(channel)
        for address in addresses:
            self._world.send_plain(channel.kind, address, "Test message", "This is a test of the channel.")
        said = "sent" if addresses else "the channel has no recipient"
        wall = self._world.wall() if addresses else None
        return self._ok({"success": bool(addresses), "message": said, "delivered_at": self._dialect.time(wall)})

    async def create_subscriber(self, request: web.Request) -> web.Response:
        body = await _read(request, SubscriberBody)
        preferred = tuple(str(channel) for channel in body.preferred_channels)
        extra = {
            "user_id": body.user_id,
            "topic_interests": body.topic_interests,
            "frequency_settings": body.frequency_settings,
        }
        one = self._world.add_subscriber(Subscriber(str(uuid4()), body.email, preferred, extra=extra))
        return self._ok(_subscriber(one), self._dialect.created)

    async def list_subscribers(self, request: web.Request) -> web.Response:
        return self._ok([_subscriber(one) for one in self._world.subscribers.values()])

    async def show_subscriber(self, request: web.Request) -> web.Response:
        return self._ok(_subscriber(self._one_subscriber(request)))

    async def change_subscriber(self, request: web.Request) -> web.Response:
        body = await _read(request, SubscriberChange)
        one = self._one_subscriber(request)
        if body.preferred_channels is not None:
            one.preferred_channels = tuple(str(channel) for channel in body.preferred_channels)
        one.status = body.status or one.status
        for name in ("topic_interests", "frequency_settings"):
            if (value := getattr(body, name)) is not None:
                one.extra[name] = value
        return self._ok(_subscriber(one))

    async def email_test(self, request: web.Request) -> web.Response:
        body = await _read(request, EmailBody)
        message = self._world.send_plain(ChannelKind.EMAIL, body.to_email, body.subject, body.custom_message)
        return answer({**_sent(message), "to_email": body.to_email})

    async def health(self, request: web.Request) -> web.Response:
        climate = self._world.climate
        services = (("aws_ses", "email"), ("slack_api", "slack"), ("discord_api", "discord"))
        external = {name: "error" if climate.outage(server) else "connected" for name, server in services}
        state = {
            "status": "degraded" if "error" in external.values() else "healthy",
            "timestamp": self._dialect.time(self._world.wall()),
            "version": "sandbox",
            "uptime_seconds": round(self._world.clock.now().since(self._started), 3),
            "database_status": "connected",
            "external_services": external,
        }
        return self._ok(state) if self._dialect.authenticates else answer(state)

    def _one_channel(self, request: web.Request) -> TargetChannel:
        identity = request.match_info["id"].lower()
        if identity not in self._world.channels:
            raise Rejected(404, "Not found", f"channel {identity} does not exist")
        return self._world.channels[identity]

    def _one_subscriber(self, request: web.Request) -> Subscriber:
        identity = request.match_info["id"].lower()
        if identity not in self._world.subscribers:
            raise Rejected(404, "Not found", f"subscriber {identity} does not exist")
        return self._world.subscribers[identity]

    # --- answers ---------------------------------------------------------------------------------------------

    def _ok(self, data: object, status: int = 200) -> web.Response:
        return self._dialect.success(data, status, self._world.wall())

    def _deleted(self, data: object) -> web.Response:
        return web.Response(status=204) if self._dialect.deleted == 204 else self._ok(data)

    def _publication(self, record: Record) -> Json:
        time, order = self._dialect.time, record.order
        results = {
            channel: {
                "status": result.status,
                "delivered_at": time(result.delivered_at),
                "error_message": result.error,
                "recipient_count": result.recipients,
                "engagement_metrics": None,
            }
            for channel, result in record.results.items()
        }
        return {
            "id": record.id,
            "channels": [*order.channels],
            "publication_type": order.kind,
            "content_ids": [*order.content_ids],
            "scheduled_time": time(record.scheduled_time),
            "published_time": time(record.published_time),
            "personalization_rules": {**order.personalization},
            "template_id": order.template_id or None,
            "status": record.status,
            "channel_results": results,
            "error_details": record.error,
            "created_at": time(record.created_at),
            "updated_at": time(record.updated_at),
        }

    def _alert(self, record: Record) -> Json:
        states = {"completed": "sent", "failed": "failed"}
        return {
            "id": record.id,
            "content_id": record.order.content_ids[0] if record.order.content_ids else None,
            "target_channels": [*record.order.channels],
            "priority": record.order.priority,
            "status": states.get(record.status, "queued"),
            "created_at": self._dialect.time(record.created_at),
        }


async def _read(request: web.Request, model: type[_Body], **forced: Any) -> _Body:
    """The request's body. Raises ValidationError, or Rejected (422) for what is not JSON."""
    if not request.can_read_body:
        return model.model_validate({**forced})
    try:
        body = await request.json()
    except ValueError as error:
        raise Rejected(422, "Validation error", "JSON decode error") from error
    return model.model_validate({**body, **forced} if isinstance(body, dict) else body)


def _sent(message: Outgoing) -> Json:
    return {"email": message.address, "status": "sent", "message_id": message.message_id, "provider": "aws_ses"}


def _channel(channel: TargetChannel) -> Json:
    shown = {
        name: "***" if any(word in name for word in _SECRETS) else value
        for name, value in channel.configuration.items()
    }
    state = {"configuration": shown, "is_active": channel.is_active}
    return {"id": channel.id, "name": channel.name, "channel_type": channel.kind, **state}


def _subscriber(one: Subscriber) -> Json:
    preferred = [*one.preferred_channels]
    return {"id": one.id, "email": one.email, "preferred_channels": preferred, "status": one.status, **one.extra}
