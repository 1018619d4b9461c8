"""The IMAP observer in trouble: every obstacle has its reason, and leaving is always quick and clean."""

from __future__ import annotations

import asyncio
import imaplib
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from imapclient.exceptions import CapabilityError, LoginError, ProtocolError

from prober.errors import Unreadable
from prober.observers.imap import ImapObserver, ImapSettings, load_cursor, save_cursor
from prober.observers.imap_errors import unreadable
from prober.observers.imap_folder import Position
from prober.sandbox.faults import RequestFault
from tests.conformance.mail_post import CLOCK, EMAIL, PASSWORD, Post, post_office, soon, subjects


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    async with post_office() as office:
        yield office


async def unreadable_of(observer: ImapObserver) -> Unreadable:
    async with observer:
        with pytest.raises(Unreadable) as blind:
            await observer.read(None)
    return blind.value


async def test_a_refused_login_says_so(post: Post) -> None:
    """A wrong password, and a server that lets nobody in, are login_refused; the secret is nowhere in the error."""
    wrong = await unreadable_of(post.observer(password="canary-pw-2"))
    assert wrong.reason == "login_refused"
    foreign = await unreadable_of(post.observer(password="canary-pässword"))
    assert foreign.reason == "login_refused"
    for error in (wrong, foreign):
        assert "canary" not in repr((error, error.__cause__, error.__context__))
    assert "canary" not in repr(post.settings())
    post.faults.lets_in = False
    assert (await unreadable_of(post.observer())).reason == "login_refused"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"folder": "Elsewhere"}, "folder_missing"),
        ({"junk": "Elsewhere"}, "folder_missing"),
        ({"tls": "tls", "verify": False}, "tls"),
        ({"tls": "starttls"}, "tls"),
        ({"tls": "tls", "ca_file": "/nowhere/ca.pem"}, "tls"),
        ({"port": 1}, "unreachable"),
        ({"host": "no-such-host.invalid"}, "unreachable"),
    ],
)
async def test_each_obstacle_has_its_reason(post: Post, changes: dict[str, object], reason: str) -> None:
    """What keeps the observer from seeing is told apart by reason."""
    assert (await unreadable_of(post.observer(**changes))).reason == reason


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (RequestFault(status=0), "unreachable"),
        (RequestFault(status=503), "unreachable"),
        (RequestFault(garbage=True), "protocol"),
        (RequestFault(delay=30.0), "timeout"),
    ],
)
async def test_each_weather_has_its_reason(post: Post, fault: RequestFault, reason: str) -> None:
    """A search that is cut off, refused, answered with nonsense or not answered is unreadable, each for its reason."""
    post.faults.requests["search"] = fault
    assert (await unreadable_of(post.observer(read_timeout=0.3))).reason == reason


async def test_a_failure_of_junk_is_one_of_the_mailbox(post: Post) -> None:
    """No reading is claimed when one of the folders could not be read."""
    async with post.observer(reopen="never") as observer:
        batch = await observer.read(None)
        post.faults.requests["noop"] = RequestFault(status=0)
        with pytest.raises(Unreadable):
            await observer.read(batch.cursor)
        post.faults.requests.clear()
        assert (await observer.read(batch.cursor)).readings["email"].continues


async def test_no_password_leaves_where_login_is_disabled() -> None:
    """A server that takes passwords under TLS only gets none without, and the mend says so."""
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n")
        while line := await reader.readline():
            heard.append(line)
            if b"CAPABILITY" in line:
                writer.write(b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\n")
            writer.write(line.split()[0] + b" OK done\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        settings = {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1], "username": "u"}
        settings |= {"password": PASSWORD, "tls": "none", "read_timeout": 3}
        blind = await unreadable_of(ImapObserver("m", ImapSettings.model_validate(settings), (EMAIL,), CLOCK))
    assert blind.reason == "login_refused"
    assert "under TLS only" in blind.detail
    assert PASSWORD.encode() not in b"".join(heard)


FOREIGN = [
    imaplib.IMAP4.error("x"),
    imaplib.IMAP4.abort("command: NOOP => socket error: EOF"),
    imaplib.IMAP4.abort("socket error: timed out"),
    imaplib.IMAP4.readonly("x"),
    CapabilityError("Server does not support STARTTLS capability"),
    LoginError("b'[AUTHENTICATIONFAILED] no'"),
    LoginError("b'[UNAVAILABLE] later'"),
    LoginError("socket error: EOF"),
    ProtocolError("x"),
    ssl.SSLCertVerificationError("x"),
    ssl.SSLEOFError("x"),
    TimeoutError("x"),
    ConnectionRefusedError("x"),
    socket.gaierror("x"),
    OSError("x"),
    EOFError("x"),
    ValueError("x"),
    KeyError("x"),
]


@pytest.mark.parametrize("error", FOREIGN, ids=repr)
@pytest.mark.parametrize("doing", ["connect to", "log in to", "open the folder 'INBOX' of", "search"])
def test_no_foreign_error_is_left_unmapped(error: Exception, doing: str) -> None:
    """Every error of the libraries below gets one of the known reasons and a mend, and keeps the secret."""
    settings = ImapSettings.model_validate({"host": "h", "username": "u", "password": PASSWORD})
    error.args = (f"{error.args[0]} {PASSWORD}", *error.args[1:])
    found = unreadable(error, settings, doing)
    assert found.reason in {"unreachable", "login_refused", "tls", "folder_missing", "protocol", "timeout"}
    assert "h:993" in found.detail
    assert PASSWORD not in str(found)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def quick_exit(observer: ImapObserver) -> float:
    """Seconds that leaving an entered observer takes."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    await observer.__aexit__(None, None, None)
    return loop.time() - start


async def test_leaving_is_quick_and_leaves_nothing(post: Post) -> None:
    """Left in the middle of IDLE the observer ends at once, without threads, sockets or pipes."""
    await post.deliver("warm up")
    threads, descriptors = threading.active_count(), open_descriptors()
    for _ in range(5):
        observer = post.observer()
        await observer.__aenter__()
        await observer.read(None)
        assert threading.active_count() == threads + 2
        assert await quick_exit(observer) < 1.0
    await post.servers.suspend()
    assert threading.active_count() == threads
    assert open_descriptors() <= descriptors
    with pytest.raises(Unreadable):
        await observer.read(None)


async def test_leaving_while_the_server_is_silent(post: Post) -> None:
    """Left in the middle of a command that is not answered the observer ends within a second."""
    post.faults.requests["noop"] = RequestFault(delay=30.0)
    threads = threading.active_count()
    observer = post.observer(read_timeout=20, reopen="never")
    await observer.__aenter__()
    reading = asyncio.create_task(observer.read(None))
    await observer.wait(soon(0.2))
    assert await quick_exit(observer) < 1.0
    assert threading.active_count() == threads
    with pytest.raises(Unreadable):
        await reading


async def test_leaving_while_connecting() -> None:
    """Left in the middle of connecting to a host that does not answer the observer ends within a second."""
    threads, descriptors = threading.active_count(), open_descriptors()
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
            fillers.append(filler)
        settings = {"host": "127.0.0.1", "port": full.getsockname()[1], "username": "u", "password": "p"}
        observer = ImapObserver("m", ImapSettings.model_validate({**settings, "tls": "none"}), (EMAIL,), CLOCK)
        await observer.__aenter__()
        reading = asyncio.create_task(observer.read(None))
        await observer.wait(soon(0.2))
        assert not reading.done()
        assert await quick_exit(observer) < 1.0
        with pytest.raises(Unreadable):
            await reading
        for filler in fillers:
            filler.close()
    assert threading.active_count() == threads
    assert open_descriptors() <= descriptors


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1, and a server's context with it."""
    folder = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subprocess.run(
        ["openssl", *kind, *names, "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context


@pytest.mark.parametrize("mode", ["tls", "starttls"])
async def test_tls_is_verified_and_pushes_come_through(certificate: tuple[Path, ssl.SSLContext], mode: str) -> None:
    """Under TLS mail arrives as without; a certificate that nobody vouches for is refused unless told otherwise."""
    file, context = certificate
    async with post_office(context, starttls=mode == "starttls") as post:
        assert (await unreadable_of(post.observer(tls=mode))).reason == "tls"
        for trust in ({"ca_file": str(file)}, {"verify": False}):
            async with post.observer(tls=mode, **trust) as observer:
                batch = await observer.read(None)
                for number in range(10):
                    await post.deliver(f"{number}")
                    assert (await observer.wait(soon())).unread
                    batch = await observer.read(batch.cursor)
                    assert subjects(batch.messages) == [f"{number}"]


@pytest.mark.parametrize("cursor", [None, "", "nonsense", "[]", '{"folders": 3}', '{"folders": {"INBOX": [1]}}'])
def test_a_broken_cursor_begins_anew(cursor: str | None) -> None:
    """A cursor that cannot be understood is one that was lost."""
    assert load_cursor(cursor) == {}


def test_a_cursor_comes_back_as_it_was() -> None:
    """What is saved is what is loaded."""
    positions = {"INBOX": Position(7, 3), "Jünk": Position(2**32 - 1, 2**32 - 2)}
    assert load_cursor(save_cursor(positions)) == positions


def test_settings_say_what_is_wrong_without_the_secret() -> None:
    """Durations are read as written; a mistake is named, the password is not."""
    good = {"adapter": "imap", "host": "h", "username": "u", "password": PASSWORD, "poll": "100ms"}
    assert ImapSettings.model_validate(good).poll == 0.1
    for mistake in ({"pool": 1}, {"poll": "fast"}, {"poll": 0}, {"junk": "INBOX"}, {"password": 5, "port": PASSWORD}):
        with pytest.raises(ValueError, match="validation error") as told:
            ImapSettings.model_validate({**good, **mistake})
        assert PASSWORD not in str(told.value)
