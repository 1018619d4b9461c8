"""AWS for the sandbox: S3, SNS, SQS and SES in one server on loopback, and the way of an inbound mail through them.

moto keeps SES's receipt rules without carrying them out, publishes no events and has no suppression list: that is done
here, in :mod:`prober.sandbox.ses` and in :mod:`prober.sandbox.ses_suppression`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from prober.clock import Clock, rfc3339
from prober.sandbox import ses_suppression
from prober.sandbox.faults import Faults
from prober.sandbox.front import HOST, Front
from prober.sandbox.mail import fold_address
from prober.sandbox.truth import Visible

REGION = "us-east-1"
PREFIX = "inbound/"
MOST_KEPT = 2000
"""Mails that the bucket keeps, the newest: it must stay quick to list."""

_RULE_SET = "sandbox"
_SERVICES = ("s3", "sqs", "sns", "ses")


@dataclass(frozen=True, slots=True)
class _Put:
    """What became of one mail: its key, the truth about it, and the notification that is due."""

    key: str
    visible: Visible
    topic: str
    notification: str


@dataclass(slots=True)
class _Names:
    """What the world's things are called; all but the rule set carry the world's id."""

    world_id: str
    bucket: str = field(init=False)
    queue: str = field(init=False)
    events_queue: str = field(init=False)
    topic: str = field(init=False)
    events_topic: str = field(init=False)

    def __post_init__(self) -> None:
        self.bucket = f"prober-inbound-{self.world_id}"
        self.queue, self.topic = (f"prober-{kind}-{self.world_id}" for kind in ("inbound", "ses"))
        self.events_queue, self.events_topic = (f"prober-{kind}-{self.world_id}" for kind in ("events", "ses-events"))


class AwsServers:
    """One inbox of one world that is read from a bucket. ``address`` is its mail address.

    ``on_visible`` is called for each mail with the instants around its put. Pushes that the weather drops or delays
    are the notifications.
    """

    def __init__(self, address: str, *, faults: Faults, world_id: str, clock: Clock) -> None:
        self.on_visible: Callable[[Visible], None] | None = None
        self.address = address
        self._faults = faults
        self._clock = clock
        self._names = _Names(world_id)
        self._keys = (f"AKIASANDBOX{secrets.token_hex(5).upper()[:9]}", secrets.token_hex(20))
        self._front = Front()
        self._server: Any = None
        self._clients: dict[str, Any] = {}
        self._account = ""
        self._events_topic = ""
        self._rule: dict[str, Any] = {}
        self._kept: deque[str] = deque()
        self._telling: set[asyncio.Task[None]] = set()

    @property
    def bucket(self) -> str:
        return self._names.bucket

    @property
    def endpoint_url(self) -> str:
        return f"http://{HOST}:{self._front.port}"

    @property
    def queue_url(self) -> str:
        return f"{self.endpoint_url}/{self._account}/{self._names.queue}"

    def settings(self) -> dict[str, Any]:
        """The observer's part of a configuration, its adapter included."""
        return {
            "adapter": "s3",
            "bucket": self.bucket,
            "prefix": PREFIX,
            "queue_url": self.queue_url,
            "events_queue_url": f"{self.endpoint_url}/{self._account}/{self._names.events_queue}",
            "region": REGION,
            "endpoint_url": self.endpoint_url,
            "access_key_id": self._keys[0],
            "secret_access_key": self._keys[1],
        }

    async def start(self) -> None:
        """Start moto, furnish it and open the door."""
        port = await asyncio.to_thread(self._open)
        await self._front.start(port)

    async def stop(self) -> None:
        """Close everything; what moto keeps of this world in the process is removed."""
        await self._front.stop()
        for task in tuple(self._telling):
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)
        if self._server is not None:
            await asyncio.to_thread(self._close)

    async def suspend(self) -> None:
        """Refuse connections, cut those that there are and take no mail, until :meth:`resume`."""
        await self._front.suspend()

    async def resume(self) -> None:
        await self._front.resume()

    def drop_connections(self) -> None:
        self._front.drop_connections()

    async def deliver(self, raw: bytes, recipient: str = "") -> str:
        """Carry an inbound mail through the active receipt rule into the bucket; its key, '' where no rule takes it.

        Raises ConnectionError while AWS is out.
        """
        if not self._front.open:
            raise ConnectionRefusedError("AWS is out")
        recipient = recipient or self.address
        put = await asyncio.to_thread(self._put, raw, recipient)
        if put is None:
            return ""
        if self.on_visible is not None:
            self.on_visible(put.visible)
        late = self._faults.push("s3", self.address)
        if late is not None:
            task = asyncio.create_task(self._tell(put, late))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)
        return put.key

    def publish(self, event: Mapping[str, Any]) -> None:
        """Publish an event of SES's to the events topic, from which it comes into the events queue."""
        task = asyncio.create_task(self._notify(self._events_topic, json.dumps(event), "Amazon SES Email Event"))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def told(self) -> None:
        """Wait until every notification that was due is in its queue."""
        await asyncio.gather(*self._telling)

    def client(self, service: str) -> Any:
        """A client of one of the services that goes past the door, for the sandbox's own use."""
        return self._clients[service]

    async def _tell(self, put: _Put, late: float) -> None:
        if late > 0:
            await self._clock.sleep(late)
        await self._notify(put.topic, put.notification, "Amazon SES Email Receipt Notification")

    async def _notify(self, topic: str, text: str, subject: str) -> None:
        await asyncio.to_thread(self._clients["sns"].publish, TopicArn=topic, Subject=subject, Message=text)

    # --- in a thread -----------------------------------------------------------------------------------------

    def _open(self) -> int:
        # A third of a second, for those only who ask for AWS.
        from moto.server import ThreadedMotoServer  # noqa: PLC0415

        ses_suppression.install()
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(HOST, 0, verbose=False)
        self._server.start()
        port = int(self._server.get_host_and_port()[1])
        session = boto3.session.Session(*self._keys, region_name=REGION)
        config = Config(proxies={}, connect_timeout=5, read_timeout=20, defaults_mode="standard")
        url = f"http://{HOST}:{port}"
        self._clients = {name: session.client(name, endpoint_url=url, config=config) for name in _SERVICES}
        self._furnish()
        return port

    def _furnish(self) -> None:
        names, s3, ses = self._names, self._clients["s3"], self._clients["ses"]
        s3.create_bucket(Bucket=names.bucket)
        topic, queue = self._subscribed(names.topic, names.queue)
        self._events_topic, _ = self._subscribed(names.events_topic, names.events_queue)
        self._account = queue.split(":")[4]
        if not ses.describe_active_receipt_rule_set().get("Rules"):
            _only_once(lambda: ses.create_receipt_rule_set(RuleSetName=_RULE_SET))
            ses.set_active_receipt_rule_set(RuleSetName=_RULE_SET)
        action = {"BucketName": names.bucket, "ObjectKeyPrefix": PREFIX, "TopicArn": topic}
        self._rule = {"Name": names.bucket, "Enabled": True, "Recipients": [self.address]}
        self._rule["Actions"] = [{"S3Action": action}]
        ses.create_receipt_rule(RuleSetName=_RULE_SET, Rule=self._rule)

    def _subscribed(self, topic: str, queue: str) -> tuple[str, str]:
        """A topic and the queue that gets what is published there; their ARNs."""
        sns, sqs = self._clients["sns"], self._clients["sqs"]
        topic_arn = str(sns.create_topic(Name=topic)["TopicArn"])
        url = sqs.create_queue(QueueName=queue)["QueueUrl"]
        arn = str(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"])
        sns.subscribe(TopicArn=topic_arn, Protocol="sqs", Endpoint=arn)
        return topic_arn, arn

    def _put(self, raw: bytes, recipient: str) -> _Put | None:
        action = self._action(recipient)
        if action is None:
            return None
        s3, message_id = self._clients["s3"], secrets.token_hex(20)
        key = f"{action.get('ObjectKeyPrefix', '')}{message_id}"
        received = self._clock.now()
        body = _inbound_headers(message_id, recipient, received.wall) + raw
        before = self._clock.now()
        s3.put_object(Bucket=action["BucketName"], Key=key, Body=body)
        after = self._clock.now()
        self._kept.append(key)
        if len(self._kept) > MOST_KEPT:
            s3.delete_object(Bucket=action["BucketName"], Key=self._kept.popleft())
        notification = _notification(action, message_id, key, recipient, received.wall)
        return _Put(key, Visible("email", self.address, key, before, after), action["TopicArn"], notification)

    def _action(self, recipient: str) -> Mapping[str, Any] | None:
        """The S3 action of the first active rule that takes mail for an address."""
        address, domain = fold_address(recipient), recipient.rpartition("@")[2].lower()
        for rule in self._clients["ses"].describe_active_receipt_rule_set().get("Rules", ()):
            wanted = {one.lower() for one in rule.get("Recipients", ())}
            if rule.get("Enabled") and (not wanted or wanted & {address, recipient.lower(), domain}):
                for action in rule.get("Actions", ()):
                    if "S3Action" in action:
                        return dict(action["S3Action"])
        return None

    def _close(self) -> None:
        names, s3, sqs = self._names, self._clients.get("s3"), self._clients.get("sqs")
        ses_suppression.forgive(self.address.rpartition("@")[2])
        try:
            if s3 is not None and sqs is not None:
                # moto cannot delete a rule.
                rule = {**self._rule, "Enabled": False}
                self._clients["ses"].update_receipt_rule(RuleSetName=_RULE_SET, Rule=rule)
                for page in s3.get_paginator("list_objects_v2").paginate(Bucket=names.bucket):
                    doomed = [{"Key": found["Key"]} for found in page.get("Contents", ())]
                    if doomed:
                        s3.delete_objects(Bucket=names.bucket, Delete={"Objects": doomed})
                s3.delete_bucket(Bucket=names.bucket)
                for queue in (names.queue, names.events_queue):
                    sqs.delete_queue(QueueUrl=f"{sqs.meta.endpoint_url}/{self._account}/{queue}")
        except (ClientError, BotoCoreError) as error:
            # Nothing is lost by it but memory, and the process is about to end.
            logging.getLogger(__name__).info("moto keeps something: %s", type(error).__name__)
        finally:
            for client in self._clients.values():
                client.close()
            self._server.stop()
            self._server = None


def _only_once(create: Callable[[], object]) -> None:
    try:
        create()
    except ClientError as error:
        if "AlreadyExists" not in str(error.response.get("Error", {}).get("Code", "")):
            raise


def _inbound_headers(message_id: str, recipient: str, wall: float) -> bytes:
    """What SES puts above a mail that it receives."""
    date = format_datetime(datetime.fromtimestamp(wall, UTC))
    server = f"inbound-smtp.{REGION}.amazonaws.com"
    return (
        f"Return-Path: <bounces@sandbox.example>\r\n"
        f"Received: from sandbox.example (sandbox.example [127.0.0.1])\r\n"
        f" by {server} with SMTP id {message_id}\r\n"
        f" for {recipient};\r\n {date}\r\n"
        "X-SES-Spam-Verdict: PASS\r\nX-SES-Virus-Verdict: PASS\r\n"
    ).encode()


def _notification(action: Mapping[str, Any], message_id: str, key: str, recipient: str, wall: float) -> str:
    """What SES tells of a mail that its S3 action has put."""
    at = rfc3339(wall)[:-4] + "Z"
    verdict = {"status": "PASS"}
    return json.dumps(
        {
            "notificationType": "Received",
            "mail": {
                "timestamp": at,
                "source": "bounces@sandbox.example",
                "messageId": message_id,
                "destination": [recipient],
            },
            "receipt": {
                "timestamp": at,
                "processingTimeMillis": 1,
                "recipients": [recipient],
                "spamVerdict": verdict,
                "virusVerdict": verdict,
                "action": {
                    "type": "S3",
                    "topicArn": action["TopicArn"],
                    "bucketName": action["BucketName"],
                    "objectKeyPrefix": action.get("ObjectKeyPrefix", ""),
                    "objectKey": key,
                },
            },
        }
    )
