"""What AWS refuses and what fails on the way to it, as an Unreadable with a reason and the mend."""

from __future__ import annotations

from typing import Final

from botocore import exceptions as aws

from prober.errors import Unreadable
from prober.observers.s3_settings import S3Settings

_ABSENT: Final = frozenset({"NoSuchKey", "NoSuchVersion", "InvalidRange", "NotFoundException"})
"""Codes by which AWS says that what was asked for is not there; of an empty object no range is."""


class Absent(Exception):
    """What was asked for is not there, and that is an answer."""


def closed() -> Unreadable:
    return Unreadable("unreachable", "the observer has not been entered, or has been left")


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


def refused(error: aws.ClientError, settings: S3Settings, doing: str) -> Exception:
    """What AWS's own no means to a reader."""
    response = error.response if isinstance(error.response, dict) else {}
    said = response.get("Error") or {}
    status = int((response.get("ResponseMetadata") or {}).get("HTTPStatusCode") or 0)
    code = str(said.get("Code") or status)
    if code in _ABSENT:
        return Absent()
    reason, mend = _REASONS.get(code, ("protocol", "AWS refused in a way that the prober does not know"))
    if reason == "protocol" and status >= 500:
        reason, mend = "unreachable", "wait: AWS itself is failing"
    return Unreadable(reason, _sentence(settings, doing, code, mend))


def failed(error: Exception, settings: S3Settings, doing: str) -> Unreadable:
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


def cause(error: Exception, settings: S3Settings) -> Exception | None:
    """The cause to chain: none where its words hold a key of ours."""
    keys = [key.get_secret_value() for key in (settings.access_key_id, settings.secret_access_key) if key is not None]
    return None if any(key in str(error) for key in keys) else error
