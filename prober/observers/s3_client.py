"""S3, SQS and SES as the observer asks them: blocking calls for its threads, bounded, every error an Unreadable."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import exceptions as aws
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from prober.acts import Acts
from prober.clock import Clock, Instant
from prober.errors import Unreadable
from prober.observers.s3_errors import Absent, cause, closed, failed, refused
from prober.observers.s3_settings import S3Settings

_ATTEMPTS: Final = 2
_CONNECTIONS: Final = 4
_MOST_AT_ONCE: Final = 10
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_INSTANCE_METADATA: Final = "iam-role"
_CLIENT_SIDE: Final = frozenset({"x-amz-key", "x-amz-key-v2", "x-amz-iv"})
"""Object metadata by which a mail is known that SES encrypted for a client: nothing in it can be read here."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One object as a listing showed it. ``modified`` is S3's wall time in whole seconds; ``shown`` our instant."""

    key: str
    modified: int
    size: int
    shown: Instant


@dataclass(frozen=True, slots=True)
class Fetched:
    """The first bytes of one object, S3's wall time of it in whole seconds, and how long it is as a whole."""

    raw: bytes
    modified: int
    size: int


@dataclass(frozen=True, slots=True)
class Received:
    """One message of a queue; ``receipt`` is what deletes it."""

    body: str
    receipt: str


@dataclass(frozen=True, slots=True)
class Suppression:
    """That SES holds back all mail to an address, since a wall time in whole seconds."""

    since: int
    reason: str


class AwsClient:
    """The clients of one observer, made when they are first needed; its methods may be called from any thread.

    Every method raises Unreadable: unreachable, auth, missing_bucket, missing_access, missing_queue, encrypted, tls,
    protocol or timeout.
    """

    def __init__(self, settings: S3Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let what is under way end at its next request."""
        self._stopping.set()

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def objects(self) -> Iterator[Listed]:
        """Every object below the prefix, in the order of the keys: complete, or Unreadable."""
        settings, token = self._settings, None
        while True:
            position: dict[str, str] = {} if token is None else {"ContinuationToken": token}
            with self._asking(f"list the bucket {settings.bucket}"):
                answer = self._client("s3").list_objects_v2(Bucket=settings.bucket, Prefix=settings.prefix, **position)
                page = _page(answer, self._clock.now())
                following = answer["NextContinuationToken"] if answer["IsTruncated"] else None
            yield from page
            if following is None:
                return
            if following == token:
                raise Unreadable("protocol", f"the listing of the bucket {settings.bucket} does not end")
            token = following

    def listed_after(self, key: str) -> tuple[list[Listed], str]:
        """One page of the listing behind a key, and the last key of it where there is more ('' : none)."""
        settings = self._settings
        with self._asking(f"list the bucket {settings.bucket}"):
            answer = self._client("s3").list_objects_v2(Bucket=settings.bucket, Prefix=settings.prefix, StartAfter=key)
            page = _page(answer, self._clock.now())
            return page, page[-1].key if answer["IsTruncated"] and page else ""

    def delete_objects(self, keys: Sequence[str]) -> dict[str, str]:
        """Delete objects, at most 1000; returns S3's code for each that it did not delete."""
        with self._asking(f"remove objects of the bucket {self._settings.bucket}"):
            answer = self._client("s3").delete_objects(
                Bucket=self._settings.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
            )
            return {str(error["Key"]): str(error.get("Code", "")) for error in answer.get("Errors", ())}

    def fetch(self, key: str) -> Fetched | None:
        """The first bytes of an object, None when it is empty or not there (any more)."""
        bucket, last = self._settings.bucket, self._settings.max_message_bytes - 1
        try:
            with self._asking(f"read an object of the bucket {bucket}"):
                answer = self._client("s3").get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{last}")
                with answer["Body"] as body:
                    raw = body.read(last + 1)
                fetched = Fetched(bytes(raw), _wall(answer["LastModified"]), _whole_size(answer))
                if len(fetched.raw) != min(fetched.size, last + 1):
                    raise ValueError("an object was cut short")
                metadata = {str(name).lower() for name in answer.get("Metadata") or {}}
        except Absent:
            return None
        if metadata & _CLIENT_SIDE:
            raise Unreadable(
                "encrypted", f"SES encrypts the mail in {bucket}: turn message encryption off in the receipt rule and "
                "remove what it encrypted; encrypt the bucket itself instead",
            )  # fmt: skip
        return fetched

    def receive(self, queue_url: str, wait_seconds: float) -> list[Received]:
        """Up to ten messages of a queue, as soon as there is one, else none after ``wait_seconds``."""
        with self._asking(f"receive from the queue {_queue_name(queue_url)}"):
            answer = self._client("sqs").receive_message(
                QueueUrl=queue_url, MaxNumberOfMessages=_MOST_AT_ONCE, WaitTimeSeconds=int(wait_seconds)
            )
            return [Received(str(raw["Body"]), str(raw["ReceiptHandle"])) for raw in answer.get("Messages", ())]

    def delete(self, queue_url: str, messages: Sequence[Received]) -> int:
        """Delete messages of a queue; returns how many stay. One that stays comes again, which does no harm."""
        stay = 0
        for start in range(0, len(messages), _MOST_AT_ONCE):
            entries = [
                {"Id": str(at), "ReceiptHandle": message.receipt}
                for at, message in enumerate(messages[start : start + _MOST_AT_ONCE])
            ]
            with self._asking(f"tell the queue {_queue_name(queue_url)} what was handled"):
                answer = self._client("sqs").delete_message_batch(QueueUrl=queue_url, Entries=entries)
                stay += len(answer.get("Failed", ()))
        return stay

    def forget(self, queue_url: str, what: str, messages: Sequence[Received], acts: Acts, place: str) -> None:
        """Delete messages of a queue, on record as ``what``."""
        if messages:
            with acts.asking("forget", place, f"{what} of the queue {_queue_name(queue_url)}", len(messages)) as answer:
                stay = self.delete(queue_url, messages)
                answer.append(deleted(stay))

    def ask(self, service: str, operation: str, doing: str, **parameters: Any) -> dict[str, Any]:
        """Any other call, its answer as boto3 gives it."""
        with self._asking(doing):
            answer: dict[str, Any] = getattr(self._client(service), operation)(**parameters)
            return answer

    def suppressed(self, address: str) -> Suppression | None:
        """Since when and why SES holds back all mail to an address, None where it does not."""
        try:
            with self._asking("ask SES for its suppression list"):
                answer = self._client("sesv2").get_suppressed_destination(EmailAddress=address)
                found = answer["SuppressedDestination"]
                return Suppression(_wall(found["LastUpdateTime"]), str(found.get("Reason", ""))[:100])
        except Absent:
            return None

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Turn whatever boto3, its transport and a strange answer raise into Unreadable."""
        if self._stopping.is_set():
            raise closed()
        try:
            yield
        except aws.ClientError as error:
            raise refused(error, self._settings, doing) from cause(error, self._settings)
        except (aws.BotoCoreError, OSError, ValueError, LookupError, TypeError) as error:
            raise failed(error, self._settings, doing) from cause(error, self._settings)

    def _client(self, service: str) -> Any:
        with self._lock:
            if self._stopping.is_set():
                raise closed()
            if service not in self._clients:
                if self._session is None:
                    self._session = _session(self._settings)
                client = self._session.client(
                    service,
                    endpoint_url=self._settings.endpoint_url,
                    config=_configuration(self._settings, service),
                    verify=(self._settings.ca_file or True) if self._settings.verify else False,
                )
                client.meta.events.register("before-call.s3.HeadBucket", _without_a_region)
                self._clients[service] = client
            return self._clients[service]


def _without_a_region(**_: Any) -> tuple[AWSResponse, dict[str, Any]]:
    """What botocore is told when it asks where a bucket lies that redirects without saying so.

    It would ask that bucket, follow its redirection by the same question, and go on until the stack ends.
    """
    return AWSResponse("", 200, {}, None), {"ResponseMetadata": {"HTTPHeaders": {}}}


def _session(settings: S3Settings) -> Any:
    session = botocore.session.Session()
    if not settings.instance_metadata:
        # Whatever the environment says, 169.254.169.254 is then never asked.
        session.get_component("credential_provider").remove(_INSTANCE_METADATA)
    if settings.access_key_id is not None and settings.secret_access_key is not None:
        session.set_credentials(
            settings.access_key_id.get_secret_value(), settings.secret_access_key.get_secret_value()
        )
    return boto3.session.Session(botocore_session=session, region_name=settings.region)


def _configuration(settings: S3Settings, service: str) -> Config:
    polling = settings.wait_seconds if service == "sqs" else 0.0
    host = urlsplit(settings.endpoint_url).hostname if settings.endpoint_url else None
    return Config(
        connect_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout + polling,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        defaults_mode="standard",
        proxies={} if host in _LOOPBACK else None,
        s3={"addressing_style": "path" if host else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def _page(answer: dict[str, Any], now: Instant) -> list[Listed]:
    return [
        Listed(str(raw["Key"]), _wall(raw["LastModified"]), int(raw["Size"]), now) for raw in answer.get("Contents", ())
    ]


def _whole_size(answer: dict[str, Any]) -> int:
    """The size of an object of which a range was asked for."""
    total = str(answer.get("ContentRange") or "").rpartition("/")[2]
    return int(total) if total else int(answer["ContentLength"])


def _wall(modified: Any) -> int:
    if not isinstance(modified, datetime) or modified.tzinfo is None:
        raise ValueError("no time of S3's")
    return int(modified.timestamp())


def deleted(stay: int) -> str:
    """How a queue answered: all is deleted, but for those that stay."""
    return f"deleted but for {stay}" if stay else "deleted"


def _queue_name(url: str) -> str:
    return url.rsplit("/", 1)[-1]
