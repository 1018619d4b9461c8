"""Carries the world's messages into the protocol servers, and notes the truth of each."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import aiosmtplib

from prober.clock import Clock, Instant
from prober.model import ChannelKind
from prober.sandbox import letters
from prober.sandbox.discord import DiscordServer
from prober.sandbox.faults import Faults
from prober.sandbox.mail import MailServers, fold_address
from prober.sandbox.records import DeliveryFailed, Outgoing, Place, sender_address
from prober.sandbox.slack import SlackServer
from prober.sandbox.truth import KEPT, Truth, Visible

if TYPE_CHECKING:
    from prober.sandbox.aws import AwsServers
    from prober.sandbox.ses import Ses

_SMTP_TIMEOUT = 10.0


class Providers:
    """The world's outlet. ``down`` are the servers (``email``, ``slack``, ``discord``) that take nothing now."""

    def __init__(
        self,
        *,
        world_id: str,
        places: tuple[Place, ...],
        clock: Clock,
        mail: MailServers,
        slack: SlackServer,
        discord: DiscordServer,
        aws: AwsServers | None = None,
        faults: Faults,
    ) -> None:
        self.down: set[str] = set()
        self._sender = sender_address(world_id)
        self._names = {place.address: place.name for place in places}
        self._clock = clock
        self._mail, self._slack, self._discord = mail, slack, discord
        self._truth = Truth()
        self._origins: OrderedDict[tuple[str, str, str], tuple[str, bool, bool]] = OrderedDict()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._posting: dict[str, Outgoing] = {}
        self._clients: dict[str, aiosmtplib.SMTP] = {}
        self._ses: Ses | None = None
        for server in (mail, slack, discord):
            server.on_visible = self._visible
        if aws is not None:
            # moto takes half a second to load, for those only who ask for AWS.
            from prober.sandbox.ses import Ses  # noqa: PLC0415

            self._ses = Ses(self._sender, aws.publish, faults, clock)
            aws.on_visible = self._visible
            mail.relays[fold_address(aws.address)] = aws.deliver

    def close(self) -> None:
        """Close the connections to the mail server."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    async def deliver(self, message: Outgoing) -> None:
        """Carry one message to its address. Raises DeliveryFailed."""
        if message.kind is ChannelKind.EMAIL:
            await self._send_mail(message)
            return
        if message.kind in self.down:
            raise DeliveryFailed("connection refused", passing=True)
        if message.address not in self._names:
            raise DeliveryFailed("channel_not_found", passing=False)
        if message.kind is ChannelKind.SLACK:
            text, blocks = letters.slack(message)
            identity = await self._slack.post(message.address, text, blocks=blocks)
        else:
            content, embeds = letters.discord(message)
            identity = await self._discord.post(message.address, content, embeds=embeds)
        self._note((message.kind, message.address, identity), message)

    def truth(self) -> Iterator[dict[str, Any]]:
        """Every message that became visible, with the publication that it came from ("" for none)."""
        for visible in self._truth:
            key = (visible.server, visible.address, visible.message_id)
            publication, damaged, junk = self._origins.get(key, ("", False, False))
            yield {
                "server": visible.server,
                "address": visible.address,
                "channel": self._names.get(visible.address, ""),
                "message_id": visible.message_id,
                "publication_id": publication,
                "damaged": damaged,
                "junk": junk,
                "before": _instant(visible.before),
                "after": _instant(visible.after),
            }

    async def _send_mail(self, message: Outgoing) -> None:
        """As SES does where there is one: it tells of everything, and of what it drops the target hears nothing."""
        raw = letters.mail(message, self._sender, self._clock.now().wall)
        if self._ses is None:
            await self._deliver_mail(message, raw)
            return
        if not self._ses.take(message, raw):
            return
        try:
            await self._deliver_mail(message, raw)
        except DeliveryFailed as failure:
            self._ses.failed(message, raw, str(failure), passing=failure.passing)
            raise
        self._ses.delivered(message, raw)

    async def _deliver_mail(self, message: Outgoing, raw: bytes) -> None:
        """One mail at a time for each address, so that what appears there meanwhile is known to be this one."""
        if message.kind in self.down:
            raise DeliveryFailed("connection refused", passing=True)
        base = fold_address(message.address)
        async with self._locks[base]:
            self._posting[base] = message
            try:
                client = await self._client(base)
                await client.sendmail(self._sender, [message.address], raw)
            except aiosmtplib.SMTPRecipientsRefused as error:
                passing = any(refused.code < 500 for refused in error.recipients)
                raise DeliveryFailed("the mailbox is not there", passing=passing) from error
            except aiosmtplib.SMTPResponseException as error:
                raise DeliveryFailed(f"SMTP {error.code}", passing=error.code < 500) from error
            except (aiosmtplib.SMTPException, OSError) as error:
                self._drop(base)
                raise DeliveryFailed(type(error).__name__, passing=True) from error
            finally:
                del self._posting[base]

    async def _client(self, address: str) -> aiosmtplib.SMTP:
        """An open connection, made anew where the last one has ended."""
        client = self._clients.get(address)
        if client is None or not client.is_connected:
            self._drop(address)
            port = self._mail.smtp_port
            client = aiosmtplib.SMTP(
                hostname="127.0.0.1", port=port, timeout=_SMTP_TIMEOUT, use_tls=False, start_tls=False
            )
            await client.connect()
            self._clients[address] = client
        return client

    def _drop(self, address: str) -> None:
        client = self._clients.pop(address, None)
        if client is not None:
            client.close()

    def _visible(self, visible: Visible) -> None:
        self._truth.add(visible)
        message = self._posting.get(visible.address)
        if message is not None:
            self._note((visible.server, visible.address, visible.message_id), message)

    def _note(self, key: tuple[str, str, str], message: Outgoing) -> None:
        self._origins[key] = (message.publication_id, message.damaged, message.junk)
        if len(self._origins) > KEPT:
            self._origins.popitem(last=False)


def _instant(instant: Instant) -> dict[str, Any]:
    return {"wall": instant.wall, "boottime": instant.boottime, "boot_id": instant.boot_id}
