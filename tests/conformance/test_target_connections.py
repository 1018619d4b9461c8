"""What can happen to one exchange between the first byte and the last, each with a real connection."""

from __future__ import annotations

import asyncio
import errno
import inspect
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from prober.clock import Instant, SystemClock, wait_for_any
from prober.errors import ConfigurationError, OwnFault, TargetError, Unanswered, Unreachable
from prober.model import PublishResult
from prober.targets.http_client import CAUGHT, Departure, HttpClient, Reply, Request, failure_of, tls_context
from tests.conformance.scripted_api import Talk, free_port, raw_server, whole_request

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
NOW = Instant(1795428000.0, 100.0, "boot")
LEFT = Departure(NOW)


def client(patience: float = 5.0, connect: float = 5.0, ca_file: Path | None = None, **more: str) -> HttpClient:
    tls = tls_context(ca_file, verify=True)
    return HttpClient(SystemClock(), timeout=patience, connect_timeout=connect, tls=tls, **more)


async def ask(url: str, patience: float = 5.0, ca_file: Path | None = None, connect: float = 5.0) -> Reply:
    async with client(patience, connect, ca_file) as one:
        return await one.exchange(Request("POST", url, {"X-Mark": "1"}, b'{"a": 1}', ("canary-token",)))


async def fails(url: str, patience: float = 5.0, ca_file: Path | None = None, connect: float = 5.0) -> TargetError:
    with pytest.raises(TargetError) as caught:
        await ask(url, patience, ca_file, connect)
    return caught.value


def saying(answer: bytes, *, then_hang: bool = False) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await whole_request(reader)
        writer.write(answer)
        await writer.drain()
        if then_hang:
            await asyncio.Event().wait()
        writer.write_eof()
        await reader.read()

    return talk


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await whole_request(reader)
    linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


@pytest.mark.parametrize(
    "talk",
    [
        resetting,
        saying(b""),
        saying(b"HTTP/1.1 201 Cre"),
        saying(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{"),
        saying(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"),
        saying(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        saying(b"220 mail.example ESMTP canary-token\r\n"),
        saying(b"HTTP/1.1 201 Created\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"),
        saying(b"HTTP/1.1 201 Created\r\nX-Long: " + b"x" * 200_000 + b"\r\n\r\n"),
    ],
    ids=["reset", "closed", "half-head", "half-body", "half-chunk", "bad-chunk", "no-http", "no-gzip", "long-head"],
)
async def test_no_whole_answer(talk: Talk) -> None:
    """A connection that breaks after the request left ends unanswered, asked once, with its instants."""
    async with raw_server(talk) as raw:
        error = await fails(f"http://{raw.origin}/x")
    assert isinstance(error, Unanswered)
    assert error.result is PublishResult.ERROR
    assert raw.connections == 1
    assert error.requested_at is not None
    assert error.answered_at is not None
    assert "canary-token" not in f"{error} {error.__cause__}"


async def test_a_broken_body_keeps_the_status() -> None:
    """When the body breaks off, the status that was read before is told."""
    head = b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\nX-Correlation-ID: c-1\r\n\r\n{"
    async with raw_server(saying(head)) as raw:
        error = await fails(f"http://{raw.origin}/x")
    assert (error.status, error.correlation_id) == (201, "c-1")


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{"], ids=["silent", "half"])
async def test_no_answer_in_time(begun: bytes) -> None:
    """A target that says nothing, or stops in the middle, ends in a time-out, asked once."""
    async with raw_server(saying(begun, then_hang=True)) as raw:
        error = await fails(f"http://{raw.origin}/x", patience=0.3)
    assert error.result is PublishResult.TIMEOUT
    assert error.requested_at is not None
    assert raw.connections == 1


async def test_a_trickle_is_no_answer() -> None:
    """The time-out bounds the whole exchange, not the pause between two bytes."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await whole_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(100_000):
            writer.write(b"x")
            await writer.drain()
            await wait_for_any(SystemClock(), asyncio.Event(), 0.01)

    async with raw_server(trickle) as raw:
        error = await fails(f"http://{raw.origin}/x", patience=0.3)
    assert error.result is PublishResult.TIMEOUT


async def test_connection_refused() -> None:
    """A refused connection is unreachable: nothing left us."""
    error = await fails(f"http://127.0.0.1:{await free_port()}/x")
    assert isinstance(error, Unreachable)
    assert error.requested_at is None
    assert "Connect call failed" in error.detail


async def test_both_addresses_of_a_name_refuse() -> None:
    """A name whose every address refuses is unreachable, not our own fault."""
    assert isinstance(await fails(f"http://localhost:{await free_port()}/x"), Unreachable)


async def test_no_route() -> None:
    """An address to which there is no route is our own fault; no packet leaves for it."""
    error = await fails("http://255.255.255.255:9/x")
    assert isinstance(error, OwnFault)
    assert error.requested_at is None


async def test_a_name_that_no_resolver_takes() -> None:
    """A name that cannot be resolved is our own fault (this one is refused before any question is asked)."""
    error = await fails(f"http://{'a' * 70}.example/x")
    assert isinstance(error, OwnFault)


async def test_a_silent_tls_server_is_unreachable() -> None:
    """A handshake that does not end in time is unreachable: the request has not left."""
    async with raw_server(saying(b"")) as raw:
        error = await fails(f"https://{raw.origin}/x", connect=0.3)
    assert isinstance(error, Unreachable)
    assert error.title == "no connection in time"


async def test_no_tls_where_it_is_demanded() -> None:
    """A server that speaks no TLS is unreachable."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.write_eof()
        await reader.read()

    async with raw_server(plain) as raw:
        assert isinstance(await fails(f"https://{raw.origin}/x"), Unreachable)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path


def tls_server(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await whole_request(reader)
    writer.write(OK)
    await reader.read()


async def test_an_untrusted_certificate(certificate: Path) -> None:
    """A certificate that nobody vouches for is unreachable: the token is not shown to its owner."""
    async with raw_server(answering, tls_server(certificate)) as raw:
        error = await fails(f"https://{raw.origin.replace('127.0.0.1', 'localhost')}/x")
    assert isinstance(error, Unreachable)
    assert "certificate" in error.detail.lower()


async def test_the_wrong_name(certificate: Path) -> None:
    """A trusted certificate for another name is unreachable."""
    async with raw_server(answering, tls_server(certificate)) as raw:
        assert isinstance(await fails(f"https://{raw.origin}/x", ca_file=certificate), Unreachable)


async def test_connecting_is_no_part_of_the_exchange(certificate: Path) -> None:
    """With TLS the request's instant lies after the handshake has begun to be answered, so connecting is apart."""
    hello: list[Instant] = []
    async with raw_server(answering, tls_server(certificate)) as inner:

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            host, _, port = inner.origin.partition(":")
            back, forth = await asyncio.open_connection(host, int(port))
            first = await reader.read(65536)
            hello.append(SystemClock().now())
            forth.write(first)
            try:
                await asyncio.gather(pipe(reader, forth), pipe(back, writer))
            finally:
                forth.transport.abort()

        async with raw_server(relay) as outer:
            url = f"https://{outer.origin.replace('127.0.0.1', 'localhost')}/x"
            reply = await ask(url, ca_file=certificate)
    assert reply.status == 200
    assert reply.requested_at.since(hello[0]) > 0
    assert reply.answered_at.since(reply.requested_at) >= 0


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65536):
        writer.write(chunk)
    writer.write_eof()


async def test_a_client_certificate_that_we_lack(certificate: Path) -> None:
    """A server that demands a certificate of ours after the handshake ends in an error of ours, not in httpx's."""
    context = tls_server(certificate)
    context.load_verify_locations(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    async with raw_server(answering, context) as raw:
        error = await fails(f"https://{raw.origin.replace('127.0.0.1', 'localhost')}/x", ca_file=certificate)
    assert isinstance(error, (Unanswered, Unreachable))


async def test_a_ca_file_that_is_none(tmp_path: Path) -> None:
    """A file of authorities that is missing or holds none is a wrong configuration, named at the start."""
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(ConfigurationError, match=name):
            tls_context(tmp_path / name, verify=True)


async def test_each_exchange_has_a_connection_of_its_own() -> None:
    """No connection is used twice, so none can have been dropped by the server in between; cookies are not kept."""
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            heads.append(await whole_request(reader))
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{}")

    async with raw_server(talk) as raw, client() as one:
        for _ in range(2):
            await one.exchange(Request("POST", f"http://{raw.origin}/x", {}, b"{}"))
    assert raw.connections == 2
    assert b"a=b" not in heads[1]


async def test_environment_proxies_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that the environment names is not asked."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{await free_port()}")
    async with raw_server(answering) as raw:
        assert (await ask(f"http://{raw.origin}/x")).status == 200


async def test_a_proxy_that_is_gone() -> None:
    """A configured proxy that cannot be reached is our own fault."""
    async with client(proxy=f"http://127.0.0.1:{await free_port()}") as one:
        with pytest.raises(OwnFault, match="proxy"):
            await one.exchange(Request("POST", "http://target.example/x", {}))


async def test_a_proxy_that_refuses_the_way() -> None:
    """A proxy that does not open the way to the target is our own fault, and nothing has left for the target."""
    no_way = saying(b"HTTP/1.1 503 No way\r\nContent-Length: 0\r\n\r\n")
    async with raw_server(no_way) as raw, client(proxy=f"http://{raw.origin}") as one:
        with pytest.raises(OwnFault) as caught:
            await one.exchange(Request("POST", "https://target.example/x", {}))
    assert caught.value.requested_at is None


async def test_a_long_answer_is_cut() -> None:
    """An answer without end is read up to the bound and then let go."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await whole_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()

    async with raw_server(endless) as raw:
        reply = await ask(f"http://{raw.origin}/x")
    assert reply.cut
    assert len(reply.body) == 1_000_000


def _httpx_errors() -> list[type[Exception]]:
    found = [one for _, one in inspect.getmembers(httpx, inspect.isclass) if issubclass(one, Exception)]
    assert len(found) > 25
    return found


@pytest.mark.parametrize("kind", _httpx_errors(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("departure", [Departure(), LEFT], ids=["before", "after"])
def test_no_error_of_httpx_is_left_unmapped(kind: type[Exception], departure: Departure) -> None:
    """Every exception of httpx becomes one of ours, and one before the request left never says that it did."""
    error = kind.__new__(kind)
    error.args = ("words",)
    told = failure_of(error, departure, NOW)
    assert told.requested_at == departure.requested_at
    if departure.requested_at is None:
        assert isinstance(told, (OwnFault, Unreachable))
    else:
        assert isinstance(told, (OwnFault, Unanswered))
    assert isinstance(error, CAUGHT)
    late = isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.PoolTimeout)
    assert (told.result is PublishResult.TIMEOUT) == (late and departure is LEFT)


def _caused(*causes: OSError) -> httpx.ConnectError:
    error = httpx.ConnectError("All connection attempts failed")
    error.__cause__ = OSError("All connection attempts failed")
    error.__cause__.__cause__ = causes[0] if len(causes) == 1 else ExceptionGroup("several", list(causes))
    return error


_UNREACHABLE = OSError(errno.ENETUNREACH, "Network is unreachable")
_REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


@pytest.mark.parametrize(
    ("causes", "kind"),
    [
        ([socket.gaierror(socket.EAI_AGAIN, "try again")], OwnFault),
        ([_UNREACHABLE], OwnFault),
        ([_UNREACHABLE, OSError(errno.EHOSTUNREACH, "No route to host")], OwnFault),
        ([OSError(errno.EMFILE, "Too many open files")], OwnFault),
        ([_UNREACHABLE, _REFUSED], Unreachable),
        ([_REFUSED], Unreachable),
        ([ConnectionResetError(errno.ECONNRESET, "reset")], Unreachable),
        ([ssl.SSLCertVerificationError(1, "expired")], Unreachable),
        ([OSError("words only")], Unreachable),
    ],
)
def test_whose_fault_a_failed_connection_is(causes: list[OSError], kind: type[TargetError]) -> None:
    """It is ours only if no address could even be tried; one address that refused is the target's answer."""
    assert type(failure_of(_caused(*causes), Departure(), NOW)) is kind
