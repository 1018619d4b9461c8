"""A bucket for tests of its observer: the sandbox's AWS over real sockets, moods to set by hand, and the truth."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

import boto3
from botocore.config import Config

from prober.clock import Instant, SystemClock
from prober.model import Batch, Channel, ChannelKind, Message
from prober.observers.s3 import S3Observer, S3Settings
from prober.sandbox.aws import PREFIX, REGION, AwsServers
from prober.sandbox.faults import Faults
from prober.sandbox.truth import Visible

ADA = "ada@w.sandbox.example"
CLOCK = SystemClock()
INBOX = Channel("email-s3", ChannelKind.EMAIL, "ses", ADA)


class Moody(Faults):
    """Pushes that a test delays or drops (None) by hand."""

    def __init__(self) -> None:
        self.late: float | None = 0.0

    def push(self, server: str, address: str) -> float | None:
        return self.late


@dataclass
class Bucket:
    """The sandbox's AWS, and the truth about what it put."""

    servers: AwsServers
    faults: Moody
    truth: list[Visible] = field(default_factory=list)

    async def clear(self) -> None:
        """Forget everything that was put, told and set."""
        self.faults.late = 0.0
        await self.servers.resume()
        await self.servers.told()
        s3, sqs = self.servers.client("s3"), self.servers.client("sqs")
        for found in s3.get_paginator("list_objects_v2").paginate(Bucket=self.servers.bucket):
            if doomed := [{"Key": one["Key"]} for one in found.get("Contents", ())]:
                s3.delete_objects(Bucket=self.servers.bucket, Delete={"Objects": doomed})
        sqs.delete_queue(QueueUrl=self.inner_queue_url)
        sqs.create_queue(QueueName=self.inner_queue_url.rsplit("/", 1)[-1])
        self.truth.clear()

    async def deliver(self, subject: str, to: str = ADA, recipient: str = ADA) -> str:
        return await self.servers.deliver(mail(subject, to), recipient)

    def put(self, name: str, raw: bytes) -> str:
        """Put an object that nobody is told of."""
        self.servers.client("s3").put_object(Bucket=self.servers.bucket, Key=f"{PREFIX}{name}", Body=raw)
        return f"{PREFIX}{name}"

    def send(self, body: str | dict[str, Any]) -> None:
        """Put a message into the queue, as it is."""
        text = body if isinstance(body, str) else json.dumps(body)
        self.servers.client("sqs").send_message(QueueUrl=self.inner_queue_url, MessageBody=text)

    def left(self, *, url: str = "") -> int:
        """How many messages the queue holds, received or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        url = url or self.inner_queue_url
        answer = self.servers.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    @property
    def inner_queue_url(self) -> str:
        return self.servers.queue_url.replace(self.servers.endpoint_url, self.inner_url)

    @property
    def inner_url(self) -> str:
        return str(self.servers.client("s3").meta.endpoint_url)

    def settings(self, **changes: object) -> S3Settings:
        its = {name: value for name, value in self.servers.settings().items() if name != "adapter"}
        return S3Settings.model_validate({**its, "read_timeout": 5, **changes})

    def observer(self, channels: tuple[Channel, ...] = (INBOX,), /, **changes: object) -> S3Observer:
        return S3Observer("ses", self.settings(**changes), channels, CLOCK)

    def new_user(self) -> dict[str, str]:
        """The keys of somebody whom AWS knows and who may do nothing."""
        iam = boto3.client("iam", endpoint_url=self.inner_url, region_name=REGION, aws_access_key_id="x",
                           aws_secret_access_key="x", config=Config(proxies={}))  # fmt: skip
        iam.create_user(UserName=self.servers.bucket)
        key = iam.create_access_key(UserName=self.servers.bucket)["AccessKey"]
        iam.close()
        return {"access_key_id": key["AccessKeyId"], "secret_access_key": key["SecretAccessKey"]}

    @contextmanager
    def strict(self) -> Iterator[None]:
        """Every request needs the rights of a known key as long as this lasts."""
        reset(self.inner_url, "0")
        try:
            yield
        finally:
            reset(self.inner_url, "inf")


def reset(url: str, free: str) -> None:
    """After so many more requests moto asks for rights."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=10)
    connection.request("POST", "/moto-api/reset-auth", free, {"Content-Type": "text/plain"})
    assert connection.getresponse().status == 200
    connection.close()


@asynccontextmanager
async def open_bucket(world_id: str) -> AsyncIterator[Bucket]:
    faults = Moody()
    servers = AwsServers(ADA, faults=faults, world_id=world_id, clock=CLOCK)
    bucket = Bucket(servers, faults)
    servers.on_visible = bucket.truth.append
    try:
        await servers.start()
        yield bucket
    finally:
        await servers.stop()


def no_reading(bucket: Bucket) -> dict[str, object]:
    """A policy under which everything is listed and nothing can be read."""
    resource = f"arn:aws:s3:::{bucket.servers.bucket}/*"
    statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": resource}
    return {"Version": "2012-10-17", "Statement": [statement]}


def mail(subject: str, to: str = ADA) -> bytes:
    return f"From: news@target.example\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nbody of {subject}\r\n".encode()


def soon(seconds: float = 20.0) -> Instant:
    return CLOCK.now().plus(seconds)


def subjects(messages: tuple[Message, ...] | list[Message]) -> list[str]:
    return [message.texts[0] for message in messages]


async def pushed(observer: S3Observer, number: int = 1) -> list[Message]:
    """So many messages as they are pushed."""
    found, end = list[Message](), soon()
    while len(found) < number and CLOCK.now().since(end) < 0:
        found += (await observer.wait(end)).pushed
    return found


async def read_until(observer: S3Observer, cursor: str, enough: Callable[[Batch], bool]) -> Batch:
    """Read from one cursor until a batch is enough."""
    end = soon()
    while True:
        batch = await observer.read(cursor)
        if enough(batch) or CLOCK.now().since(end) > 0:
            return batch
        await observer.wait(CLOCK.now().plus(0.05))
