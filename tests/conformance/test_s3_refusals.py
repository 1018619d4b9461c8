"""What the S3 observer says when it cannot see: typed, with the mend, without a secret, and never to the metadata."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from aiohttp import web
from pydantic import ValidationError

from prober.errors import Unreadable
from prober.observers import s3_client
from prober.observers.s3 import S3Observer, S3Settings
from prober.observers.s3_client import AwsClient
from tests.conformance.s3_world import CLOCK, INBOX, Bucket, open_bucket, soon

CANARY = "canary-secret-access-key-1"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bucket() -> AsyncIterator[Bucket]:
    async with open_bucket(secrets.token_hex(4)) as opened:
        yield opened


async def reason(observer: S3Observer, cursor: str | None = None) -> Unreadable:
    """Why a read fails."""
    async with observer:
        with pytest.raises(Unreadable) as blind:
            await observer.read(cursor)
    assert CANARY not in repr(blind.value)
    return blind.value


async def test_a_missing_bucket_is_named(bucket: Bucket) -> None:
    """A bucket that is not there is told by its name."""
    error = await reason(bucket.observer(queue_url=None, bucket="no-such-bucket"))
    assert error.reason == "missing_bucket"
    assert "no-such-bucket" in error.detail


async def test_unknown_keys_are_refused(bucket: Bucket) -> None:
    """Keys that AWS does not know are a fault of the configuration, and are not repeated."""
    with bucket.strict():
        error = await reason(bucket.observer(queue_url=None, secret_access_key=CANARY))
    assert error.reason == "auth"
    assert bucket.settings().access_key_id is not None
    assert bucket.settings().access_key_id.get_secret_value() not in str(error)  # type: ignore[union-attr]


async def test_missing_rights_are_told_with_what_is_needed(bucket: Bucket) -> None:
    """A known key without rights is told which ones it needs."""
    keys = bucket.new_user()
    with bucket.strict():
        error = await reason(bucket.observer(queue_url=None, **keys))
    assert error.reason == "missing_access"
    assert "s3:ListBucket" in error.detail


async def test_client_side_encryption_blinds(bucket: Bucket) -> None:
    """A mail that SES encrypted for a client cannot be read here, and is told with the mend."""
    s3 = bucket.servers.client("s3")
    async with bucket.observer(queue_url=None) as observer:
        batch = await observer.read(None)
        key = f"{bucket.settings().prefix}sealed-by-ses"
        s3.put_object(Bucket=bucket.servers.bucket, Key=key, Body=b"\x00", Metadata={"x-amz-iv": "AAAA"})
        with pytest.raises(Unreadable, match=r"encrypted.*receipt rule"):
            await observer.read(batch.cursor)
        s3.delete_object(Bucket=bucket.servers.bucket, Key=key)
        assert (await observer.read(batch.cursor)).messages == ()


async def test_a_missing_queue_is_trouble_and_no_blindness(bucket: Bucket) -> None:
    """Without its queue the observer still reads, says what is wrong, and asks for reads by itself."""
    async with bucket.observer(queue_url=f"{bucket.servers.endpoint_url}/1/no-such-queue") as observer:
        batch = await observer.read(None)
        assert (await observer.wait(soon())).unread
        assert observer.push_trouble.startswith("missing_queue: cannot receive from the queue no-such-queue")
        assert (await observer.wait(soon(30))).unread
        assert (await observer.read(batch.cursor)).readings["email-s3"].continues


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, "<html>a proxy's page</html>", "protocol"),
        (200, "", "protocol"),
        (200, "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", "protocol"),
        (200, "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>inbound/x</Key></Contents>"
         "</ListBucketResult>", "protocol"),
        (404, "not XML", "protocol"),
        (500, "<Error><Code>InternalError</Code></Error>", "unreachable"),
        (503, "<Error><Code>SlowDown</Code></Error>", "unreachable"),
        (400, "<Error><Code>AuthorizationHeaderMalformed</Code></Error>", "missing_bucket"),
        (301, "<Error><Code>PermanentRedirect</Code></Error>", "missing_bucket"),
        (307, "", "protocol"),
        (403, "<Error><Code>SignatureDoesNotMatch</Code></Error>", "auth"),
        (403, "<Error><Code>RequestTimeTooSkewed</Code></Error>", "auth"),
        (403, "<Error><Code>AccessDenied</Code></Error>", "missing_access"),
    ],
)  # fmt: skip
async def test_every_strange_answer_is_unreadable(status: int, body: str, expected: str) -> None:
    """Whatever answers in the place of S3, a read ends as a typed Unreadable and never as an empty one."""
    async with scripted({"/": (status, body)}) as url:
        assert (await reason(scripted_observer(url))).reason == expected


@pytest.mark.parametrize("headers", [{"Content-Range": "bytes 0-3/90"}, {}])
async def test_an_object_that_is_cut_short_is_no_mail(headers: Mapping[str, str]) -> None:
    """Less than the range says, or than the listing showed, blinds: what was cut off may be what we look for."""
    listed = (
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>inbound/x</Key><Size>90</Size>"
        "<LastModified>2026-11-23T10:00:00.000Z</LastModified></Contents></ListBucketResult>"
    )
    told = {"Last-Modified": "Mon, 23 Nov 2026 10:00:00 GMT", **headers}
    empty = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
    answers = {"/": (200, empty), "/b/inbound/x": (206, "Subj")}
    async with scripted(answers, told) as url, scripted_observer(url) as observer:
        cursor = (await observer.read(None)).cursor
        answers["/"] = (200, listed)
        with pytest.raises(Unreadable, match="protocol"):
            await observer.read(cursor)


async def test_silence_ends_in_time() -> None:
    """A server that takes the connection and says nothing is a time-out."""
    async with silent() as url:
        assert (await reason(scripted_observer(url, read_timeout="200ms"))).reason == "timeout"


async def test_nobody_there_is_unreachable() -> None:
    """A port on which nobody listens is unreachable."""
    async with scripted({}) as url:
        pass
    assert (await reason(scripted_observer(url))).reason == "unreachable"


async def test_the_instance_metadata_is_asked_only_when_told_to() -> None:
    """Of the places where boto3 looks for credentials the metadata address is left out, unless it is asked for."""
    found = []
    for wanted in (False, True):
        settings = S3Settings(bucket="b", region="eu-west-1", instance_metadata=wanted)
        session = s3_client._session(settings)
        providers = session._session.get_component("credential_provider").providers
        found.append("iam-role" in {provider.METHOD for provider in providers})
    assert found == [False, True]


async def test_no_credentials_at_all_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no credentials are found anywhere the read says so, without asking any network."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent/config")
    settings = S3Settings(bucket="b", region="eu-west-1", endpoint_url="http://127.0.0.1:9")
    error = await reason(S3Observer("ses", settings, (INBOX,), CLOCK))
    assert error.reason == "auth"
    assert "access_key_id" in error.detail


@pytest.mark.parametrize(
    "wrong",
    [
        {"access_key_id": CANARY},
        {"queue_url": "https://q/1", "events_queue_url": "https://q/1"},
        {"queue_url": "arn:aws:sqs:eu-west-1:1:q"},
        {"wait_seconds": "100ms"},
        {"bucket": ""},
        {"bucket": None},
        {"bucket": None, "queue_url": "https://q/1", "events_queue_url": "https://q/2"},
        {"endpoint": "x"},
    ],
)
async def test_settings_that_contradict_are_refused(wrong: Mapping[str, str]) -> None:
    """A wrong setting is refused before anything is asked, and its value is not shown."""
    with pytest.raises(ValidationError) as refused:
        S3Settings.model_validate({"bucket": "b", "region": "eu-west-1", **wrong})
    assert CANARY not in str(refused.value)


async def test_keys_are_never_shown() -> None:
    """Neither the settings nor what holds them shows a key."""
    settings = S3Settings.model_validate(
        {"bucket": "b", "region": "r", "access_key_id": CANARY, "secret_access_key": CANARY}
    )
    assert CANARY not in repr(settings) + str(settings) + repr(AwsClient(settings, CLOCK))


def scripted_observer(url: str, **changes: object) -> S3Observer:
    its = {"bucket": "b", "prefix": "inbound/", "region": "us-east-1", "endpoint_url": url}
    keys = {"access_key_id": "AKIA", "secret_access_key": CANARY}
    return S3Observer("ses", S3Settings.model_validate({**its, **keys, **changes}), (INBOX,), CLOCK)


@asynccontextmanager
async def scripted(
    answers: Mapping[str, tuple[int, str]], headers: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """A server that answers by path, and to every other path as to ``/``; its address."""

    async def answer(request: web.Request) -> web.Response:
        status, body = answers.get(request.path) or answers["/"]
        return web.Response(status=status, text=body, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site.port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """A server that listens and never says anything; its address."""
    ends = asyncio.Event()

    async def converse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ends.wait()
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        ends.set()
        server.close()
        await server.wait_closed()
