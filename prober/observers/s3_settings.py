"""What is configured of an S3 observer."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from prober.durations import parse_duration
from prober.observers.mail import LIMIT

WITHOUT_A_QUEUE: Final = 5.0
"""Seconds between reads while deliveries are open where nothing is pushed."""


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
