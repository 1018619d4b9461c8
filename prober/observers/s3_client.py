"""S3, SQS and SES as the observer asks them: blocking calls for its threads, bounded, every error an Unreadable."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore import exceptions as aws
from botocore.config import Config
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from prober.clock import Clock, Instant
from prober.durations import parse_duration
from prober.errors import Unreadable
from prober.observers.mail import LIMIT

WITHOUT_A_QUEUE: Final = 5.0
"""Seconds between reads while deliveries are open where nothing is pushed."""

_ATTEMPTS: Final = 2
_CONNECTIONS: Final = 4
_MOST_AT_ONCE: Final = 10
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_INSTANCE_METADATA: Final = "iam-role"
_CLIENT_SIDE: Final = frozenset({"x-amz-key", "x-amz-key-v2", "x-amz-iv"})
"""Object metadata by which a mail is known that SES encrypted for a client: nothing in it can be read here."""

_ABSENT: Final = frozenset({"NoSuchKey", "NoSuchVersion", "InvalidRange", "NotFoundException"})
"""Codes by which AWS says that what was asked for is not there; of an empty object no range is."""


def _optional_seconds(value: Any) -> Any:
    return None if value is None else parse_duration(value)


Duration = Annotated[float, BeforeValidator(parse_duration)]


class S3Settings(BaseModel):
    """Where SES puts inbound mail and who tells of it. Durations in seconds or as written (``5s``).

    Without ``queue_url`` nothing is pushed and the bucket is listed every ``poll``. ``wait_seconds`` is how long one
    long poll of the queue lasts, and so how long leaving the observer may take. ``events_queue_url`` is where SES
    publishes what becomes of the mail that the target sends, to addresses of any observer; with it alone, without a
    bucket, no channel is read. Without keys boto3's own chain finds them; EC2's instance metadata is asked only with
    ``instance_metadata``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    bucket: str | None = Field(default=None, min_length=1)
    prefix: str = ""
    queue_url: str | None = Field(default=None, pattern=r"^https?://")
    events_queue_url: str | None = Field(default=None, pattern=r"^https?://")
    region: str = Field(min_length=1)
    endpoint_url: str | None = Field(default=None, pattern=r"^https?://")
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    instance_metadata: bool = False
    verify: bool = True
    ca_file: str | None = None
    poll: Annotated[float | None, BeforeValidator(_optional_seconds), Field(gt=0)] = None
    max_message_bytes: int = Field(default=LIMIT, ge=1024)
    wait_seconds: Annotated[Duration, Field(ge=1, le=20)] = 1.0
    connect_timeout: Annotated[Duration, Field(gt=0)] = 5.0
    read_timeout: Annotated[Duration, Field(gt=0)] = 10.0

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together: give both, or neither")
        if self.bucket is None and (self.queue_url is not None or self.events_queue_url is None):
            raise ValueError("bucket is missing: it may be left out only where events_queue_url alone is heard")
        if self.queue_url is not None and self.queue_url == self.events_queue_url:
            raise ValueError("queue_url and events_queue_url name one queue: each would take the other's messages")
        return self

    @property
    def used_poll(self) -> float | None:
        """Seconds between reads while deliveries are open; None where notifications and aligned reads are enough."""
        return self.poll if self.poll is not None or self.queue_url is not None else WITHOUT_A_QUEUE

    @property
    def place(self) -> str:
        """What a cursor belongs to: a bucket's name means the same only at one endpoint."""
        return f"{self.endpoint_url or self.region}/{self.bucket}/{self.prefix}"


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
        except _Absent:
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

    def delete(self, queue_url: str, messages: Sequence[Received]) -> None:
        """Delete messages of a queue; one that stays comes again, which does no harm."""
        for start in range(0, len(messages), _MOST_AT_ONCE):
            entries = [
                {"Id": str(at), "ReceiptHandle": message.receipt}
                for at, message in enumerate(messages[start : start + _MOST_AT_ONCE])
            ]
            with self._asking(f"tell the queue {_queue_name(queue_url)} what was handled"):
                self._client("sqs").delete_message_batch(QueueUrl=queue_url, Entries=entries)

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
        except _Absent:
            return None

    @contextmanager
    def _asking(self, doing: str) -> Iterator[None]:
        """Turn whatever boto3, its transport and a strange answer raise into Unreadable."""
        if self._stopping.is_set():
            raise closed()
        try:
            yield
        except aws.ClientError as error:
            raise _refused(error, self._settings, doing) from _cause(error, self._settings)
        except (aws.BotoCoreError, OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            # botocore follows a redirection that leads to itself until the stack ends.
            raise _failed(error, self._settings, doing) from _cause(error, self._settings)

    def _client(self, service: str) -> Any:
        with self._lock:
            if self._stopping.is_set():
                raise closed()
            if service not in self._clients:
                if self._session is None:
                    self._session = _session(self._settings)
                self._clients[service] = self._session.client(
                    service,
                    endpoint_url=self._settings.endpoint_url,
                    config=_configuration(self._settings, service),
                    verify=(self._settings.ca_file or True) if self._settings.verify else False,
                )
            return self._clients[service]


class _Absent(Exception):
    """What was asked for is not there, and that is an answer."""


def closed() -> Unreadable:
    return Unreadable("unreachable", "the observer has not been entered, or has been left")


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


_REASONS: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(
        ("InvalidAccessKeyId", "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
         "ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException", "AuthFailure",
         "MissingAuthenticationToken", "401"),
        ("auth", "check access_key_id and secret_access_key, or what boto3's chain finds instead"),
    ),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestExpired"), ("auth", "set this machine's clock right")),
    **dict.fromkeys(
        ("AccessDenied", "AccessDeniedException", "AllAccessDisabled", "UnauthorizedOperation", "KMSAccessDenied",
         "KMS.AccessDeniedException", "AWS.SimpleQueueService.AccessDenied", "403"),
        ("missing_access", "allow s3:ListBucket, s3:GetObject, for a queue sqs:ReceiveMessage and "
         "sqs:DeleteMessage, and what decrypts them; for SES's suppression list ses:GetSuppressedDestination"),
    ),
    "NoSuchBucket": ("missing_bucket", "check bucket and region"),
    **dict.fromkeys(
        ("PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"),
        ("missing_bucket", "the bucket lies in another region; check region"),
    ),
    **dict.fromkeys(
        ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"),
        ("missing_queue", "check queue_url and region"),
    ),
    **dict.fromkeys(("RequestTimeout", "RequestTimeoutException"), ("timeout", "wait: AWS itself is slow")),
    **dict.fromkeys(
        ("SlowDown", "Throttling", "ThrottlingException", "RequestThrottled", "TooManyRequestsException"),
        ("unreachable", "wait: AWS allows no more requests now"),
    ),
}  # fmt: skip


def _refused(error: aws.ClientError, settings: S3Settings, doing: str) -> Exception:
    """What AWS's own no means to a reader."""
    response = error.response if isinstance(error.response, dict) else {}
    said = response.get("Error") or {}
    status = int((response.get("ResponseMetadata") or {}).get("HTTPStatusCode") or 0)
    code = str(said.get("Code") or status)
    if code in _ABSENT:
        return _Absent()
    reason, mend = _REASONS.get(code, ("protocol", "AWS refused in a way that the prober does not know"))
    if reason == "protocol" and status >= 500:
        reason, mend = "unreachable", "wait: AWS itself is failing"
    return Unreadable(reason, _sentence(settings, doing, code, mend))


def _failed(error: Exception, settings: S3Settings, doing: str) -> Unreadable:
    """What a failure without an answer of AWS's means to a reader."""
    name = type(error).__name__
    if isinstance(error, aws.SSLError):
        return Unreadable("tls", _sentence(settings, doing, name, "check endpoint_url, ca_file and the certificate"))
    if isinstance(error, (aws.ConnectTimeoutError, aws.ReadTimeoutError, TimeoutError)):
        return Unreadable("timeout", _sentence(settings, doing, name, "check endpoint_url, network and firewall"))
    if isinstance(error, _UNAUTHENTICATED):
        mend = "give access_key_id and secret_access_key, or let boto3's chain find them (instance_metadata for EC2's)"
        return Unreadable("auth", _sentence(settings, doing, name, mend))
    if isinstance(error, (aws.ConnectionError, aws.HTTPClientError, aws.IncompleteReadError, OSError)):
        return Unreadable("unreachable", _sentence(settings, doing, name, "check the network and endpoint_url"))
    return Unreadable("protocol", _sentence(settings, doing, name, "the answer is not AWS's; check endpoint_url"))


_UNAUTHENTICATED: Final = (
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.CredentialRetrievalError,
    aws.TokenRetrievalError,
    aws.NoAuthTokenError,
    aws.SSOError,
    aws.LoginError,
    aws.ProfileNotFound,
)


def _sentence(settings: S3Settings, doing: str, said: str, mend: str) -> str:
    """Only codes and names of errors are repeated: their texts may quote what they were given."""
    return f"cannot {doing} at {settings.endpoint_url or settings.region}: {said[:100]}; {mend}"


def _cause(error: Exception, settings: S3Settings) -> Exception | None:
    """The cause to chain: none where its words hold a key of ours."""
    keys = [key.get_secret_value() for key in (settings.access_key_id, settings.secret_access_key) if key is not None]
    return None if any(key in str(error) for key in keys) else error


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


def _queue_name(url: str) -> str:
    return url.rsplit("/", 1)[-1]
