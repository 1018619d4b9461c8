"""The places of mail for the suite for observers: mailboxes of the sandbox and of Dovecot, and a bucket."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from prober.observers import Observer
from prober.observers.imap import ImapObserver, ImapSettings
from prober.sandbox.aws import PREFIX
from prober.sandbox.faults import RequestFault
from prober.sandbox.front import Front
from tests.conformance import mail_post, s3_world
from tests.conformance.place import CLOCK
from tests.servers.dovecot import PASSWORD, Mailbox, recreate


class ImapPlace:
    """A mailbox of the sandbox."""

    channel = mail_post.EMAIL.name
    pushes_whole = False
    obstacles: ClassVar[Mapping[str, str]] = {
        "outage": "unreachable",
        "refused login": "login_refused",
        "garbage": "protocol",
        "silence": "timeout",
        "cut answer": "unreachable",
    }
    _FAULTS: ClassVar[Mapping[str, RequestFault]] = {
        "garbage": RequestFault(garbage=True),
        "silence": RequestFault(delay=30.0),
        "cut answer": RequestFault(status=0),
    }

    def __init__(self, post: mail_post.Post) -> None:
        self._post = post

    def observer(self) -> Observer:
        return self._post.observer(read_timeout=1)

    async def post(self, name: str) -> None:
        await self._post.deliver(name)

    async def cut(self) -> None:
        self._post.servers.drop_connections()

    def mute(self) -> None:
        self._post.faults.drops_pushes = True

    async def forget(self) -> None:
        self._post.servers.new_validity(mail_post.ADA)

    async def obstruct(self, name: str) -> None:
        if name == "outage":
            await self._post.servers.suspend()
        elif name == "refused login":
            self._post.faults.lets_in = False
            self._post.servers.drop_connections()
        else:
            self._post.faults.requests["search"] = self._FAULTS[name]

    async def clear(self, name: str) -> None:
        self._post.faults.lets_in = True
        self._post.faults.requests.clear()
        if name == "outage":
            await self._post.servers.resume()


class DovecotPlace:
    """A mailbox of Debian's Dovecot behind a door. Muted, an observer that is made afterwards does not IDLE."""

    channel = "email"
    pushes_whole = False
    obstacles: ClassVar[Mapping[str, str]] = {"outage": "unreachable", "refused login": "login_refused"}

    def __init__(self, box: Mailbox, door: Front) -> None:
        self._box, self._door = box, door
        self._idle = True

    def observer(self) -> Observer:
        settings = ImapSettings.model_validate(
            self._box.settings(port=self._door.port, read_timeout=5, idle=self._idle)
        )
        return ImapObserver("mailbox", settings, (replace(mail_post.EMAIL, address=self._box.address),), CLOCK)

    async def post(self, name: str) -> None:
        raw = f"From: news@target.example\r\nTo: {self._box.address}\r\nSubject: {name}\r\n\r\nhello\r\n"
        self._box.put(raw.encode())

    async def cut(self) -> None:
        self._door.drop_connections()

    def mute(self) -> None:
        self._idle = False

    async def forget(self) -> None:
        """INBOX cannot be made anew; one folder that has other numbers breaks the reading of all."""
        await asyncio.to_thread(recreate, self._box, "Junk")
        self._door.drop_connections()

    async def obstruct(self, name: str) -> None:
        if name == "outage":
            await self._door.suspend()
        else:
            await asyncio.to_thread(self._box.set_password, "another")
            self._door.drop_connections()

    async def clear(self, name: str) -> None:
        if name == "outage":
            await self._door.resume()
        else:
            await asyncio.to_thread(self._box.set_password, PASSWORD)


class S3Place:
    """A bucket of the sandbox's AWS, and its queue."""

    channel = s3_world.INBOX.name
    pushes_whole = True
    obstacles: ClassVar[Mapping[str, str]] = {
        "outage": "unreachable",
        "no right to read": "missing_access",
        "client-side encryption": "encrypted",
    }

    def __init__(self, bucket: s3_world.Bucket) -> None:
        self._bucket = bucket
        self._s3 = bucket.servers.client("s3")
        self._numbers = itertools.count()
        self._prefix = PREFIX

    def observer(self) -> Observer:
        return self._bucket.observer(prefix=self._prefix)

    async def post(self, name: str) -> None:
        try:
            await self._bucket.deliver(name)
        except ConnectionError:  # the way in is out, too; what lies there is there all the same
            self._bucket.put(f"unannounced-{next(self._numbers)}", s3_world.mail(name))

    async def cut(self) -> None:
        self._bucket.servers.drop_connections()

    def mute(self) -> None:
        self._bucket.faults.late = None

    async def forget(self) -> None:
        """Another prefix behind the observer's name: what was read of the first says nothing about it."""
        self._prefix = "inbound"

    async def obstruct(self, name: str) -> None:
        bucket = self._bucket.servers.bucket
        if name == "outage":
            await self._bucket.servers.suspend()
        elif name == "no right to read":
            self._s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(s3_world.no_reading(self._bucket)))
        else:
            self._s3.put_object(Bucket=bucket, Key=self._sealed, Body=b"\x00", Metadata={"x-amz-iv": "AAAA"})

    async def clear(self, name: str) -> None:
        bucket = self._bucket.servers.bucket
        if name == "outage":
            await self._bucket.servers.resume()
        elif name == "no right to read":
            self._s3.delete_bucket_policy(Bucket=bucket)
        else:
            self._s3.delete_object(Bucket=bucket, Key=self._sealed)

    @property
    def _sealed(self) -> str:
        return f"{PREFIX}sealed"
