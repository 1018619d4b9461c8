"""The IMAP observer against real sockets: nothing is missed, nothing is claimed that was not read."""

from __future__ import annotations

import asyncio
import imaplib
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import CapabilityError, LoginError, ProtocolError

from prober.clock import Instant, SystemClock
from prober.errors import Unreadable
from prober.model import Batch, Channel, ChannelKind, How, Message
from prober.observers.imap import ImapObserver, ImapSettings, addressed, load_cursor, save_cursor
from prober.observers.imap_folder import REREAD, Position
from prober.observers.imap_session import unreadable
from prober.observers.mail import read_mail
from prober.sandbox.faults import Faults, RequestFault
from prober.sandbox.mail import MailServers
from prober.sandbox.truth import Visible

ADA = "ada@w.sandbox.example"
PASSWORD = "canary-pw-1"
CLOCK = SystemClock()
EMAIL = Channel("email", ChannelKind.EMAIL, "mailbox", ADA)


class Moody(Faults):
    """Faults that a test sets by hand."""

    def __init__(self) -> None:
        self.lets_in = True
        self.drops_pushes = False
        self.requests: dict[str, RequestFault] = {}

    def push(self, server: str, address: str) -> float | None:
        return None if self.drops_pushes else 0.0

    def login(self, server: str) -> bool:
        return self.lets_in

    def request(self, server: str, action: str) -> RequestFault | None:
        return self.requests.get(action) if server == "imap" else None


@dataclass
class Post:
    """The sandbox's servers, and the truth about what they delivered."""

    servers: MailServers
    faults: Moody
    truth: list[Visible] = field(default_factory=list)

    async def deliver(self, subject: str, folder: str = "INBOX", to: str = ADA) -> None:
        raw = f"From: news@target.example\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nbody of {subject}\r\n".encode()
        await self.servers.deliver(ADA, raw, folder)

    def settings(self, **changes: object) -> ImapSettings:
        its = {"host": "127.0.0.1", "port": self.servers.imap_port, "username": ADA, "password": PASSWORD}
        return ImapSettings.model_validate({**its, "tls": "none", "read_timeout": 3, **changes})

    def observer(self, channels: tuple[Channel, ...] = (EMAIL,), /, **changes: object) -> ImapObserver:
        return ImapObserver("mailbox", self.settings(**changes), channels, CLOCK)


@asynccontextmanager
async def post_office(tls: ssl.SSLContext | None = None, *, starttls: bool = False) -> AsyncIterator[Post]:
    faults = Moody()
    servers = MailServers({ADA: PASSWORD}, faults=faults, world_id="w", clock=CLOCK, tls=tls, starttls=starttls)
    await servers.start()
    post = Post(servers, faults)
    servers.on_visible = post.truth.append
    try:
        yield post
    finally:
        await servers.stop()


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    async with post_office() as office:
        yield office


def soon(seconds: float = 5.0) -> Instant:
    return CLOCK.now().plus(seconds)


def subjects(messages: tuple[Message, ...] | list[Message]) -> list[str]:
    return [message.texts[0] for message in messages]


async def collect(
    observer: ImapObserver, cursor: str, number: int, seconds: float = 20.0
) -> tuple[list[Message], Batch]:
    """Read, through every failure, until so many messages are seen or the time is over."""
    end, messages, batch = soon(seconds), list[Message](), Batch((), cursor, {})
    while len(messages) < number and CLOCK.now().since(end) < 0:
        try:
            batch = await observer.read(batch.cursor)
        except Unreadable:
            await observer.wait(soon(0.02))
            continue
        messages += batch.messages
        if len(messages) < number:
            await observer.wait(soon(0.1))
    return messages, batch


async def test_a_push_becomes_a_message(post: Post) -> None:
    """A delivered mail wakes the observer, which reads it as pushed, decoded, and with the server's stamp."""
    async with post.observer() as observer:
        batch = await observer.read(None)
        await post.deliver("hello")
        assert (await observer.wait(soon())).unread
        batch = await observer.read(batch.cursor)
    (message,), (visible,) = batch.messages, post.truth
    assert message.id == visible.message_id
    assert (message.channel, message.how, message.misplaced) == ("email", How.PUSH, False)
    assert message.texts[0] == "hello"
    assert "body of hello" in message.texts[-1]
    assert (message.sender, message.recipients) == ("news@target.example", (ADA,))
    assert message.seen.since(visible.before) >= 0
    assert message.stamp is not None
    assert message.stamp.source == "imap:127.0.0.1"
    assert abs(message.stamp.at - visible.before.wall) <= 2.0


async def test_pushes_are_quick(post: Post) -> None:
    """From visible to in our hands half the messages take less than 40 ms."""
    taken: list[float] = []
    async with post.observer() as observer:
        batch = await observer.read(None)
        for number in range(40):
            await post.deliver(f"{number}")
            assert (await observer.wait(soon())).unread
            batch = await observer.read(batch.cursor)
            taken += [message.seen.since(post.truth[-1].after) for message in batch.messages]
    assert len(taken) == 40
    assert sorted(taken)[20] < 0.04


async def test_what_was_there_before_is_not_read(post: Post) -> None:
    """Without a cursor the observer begins now, however much lies in the mailbox, and says that it begins."""
    for number in range(50):
        await post.deliver(f"{number}")
    async with post.observer() as observer:
        batch = await observer.read(None)
        assert batch.messages == ()
        assert not batch.readings["email"].continues
        assert batch.readings["email"].started.since(post.truth[-1].after) > 0
        await post.deliver("new")
        batch = await observer.read(batch.cursor)
        assert subjects(batch.messages) == ["new"]
        assert batch.readings["email"].continues


async def test_silence_is_no_reading_and_a_read_moves_the_watermark(post: Post) -> None:
    """With every push dropped a wait ends without news, and the next read finds the mail by itself."""
    post.faults.drops_pushes = True
    async with post.observer() as observer:
        first = await observer.read(None)
        await post.deliver("unannounced")
        assert not (await observer.wait(soon(0.2))).unread
        batch = await observer.read(first.cursor)
    assert [message.how for message in batch.messages] == [How.POLL]
    reading = batch.readings["email"]
    assert reading.started.since(first.readings["email"].started) > 0
    assert reading.ended.since(reading.started) >= 0


async def test_a_lost_push_shows_when_idle_is_entered_anew(post: Post) -> None:
    """Without any push a message is news at the latest when the IDLE is renewed."""
    post.faults.drops_pushes = True
    async with post.observer(renew="100ms") as observer:
        await observer.read(None)
        await post.deliver("late")
        assert (await observer.wait(soon())).unread


async def test_a_reading_covers_what_was_visible_at_its_start(post: Post) -> None:
    """While mail flows, every message that was visible when a read started has been returned when it ends."""
    post.faults.drops_pushes = True
    seen: dict[str, Instant] = {}

    async def flow() -> None:
        for number in range(150):
            await post.deliver(f"{number}")
            await CLOCK.sleep(0.002)

    async with post.observer(junk="none") as observer:
        batch = await observer.read(None)
        flowing = asyncio.create_task(flow())
        while not flowing.done() or len(seen) < 150:
            batch = await observer.read(batch.cursor)
            seen |= {message.id: message.seen for message in batch.messages}
            started = batch.readings["email"].started
            due = [visible.message_id for visible in post.truth if started.since(visible.after) >= 0]
            assert set(due) <= set(seen)
        await flowing


async def test_nothing_is_missed_across_a_hundred_drops(post: Post) -> None:
    """While connections are cut a hundred times every mail is read, once, and coverage never breaks."""
    async with post.observer(read_timeout=2) as observer:
        cursor = (await observer.read(None)).cursor

        async def flow() -> None:
            for number in range(120):
                await post.deliver(f"{number}", "Junk" if number % 5 == 0 else "INBOX")
                if number < 100:
                    post.servers.drop_connections()
                await CLOCK.sleep(0.003)

        flowing = asyncio.create_task(flow())
        messages, batch = await collect(observer, cursor, 120)
        await flowing
    assert sorted(message.id for message in messages) == sorted(visible.message_id for visible in post.truth)
    assert sum(message.misplaced for message in messages) == 24
    assert batch.readings["email"].continues


async def test_sight_returns_with_the_server(post: Post) -> None:
    """While the server is away reads say so; when it is back the first read finds what came meanwhile, as history."""
    async with post.observer() as observer:
        batch = await observer.read(None)
        await post.servers.suspend()
        assert (await observer.wait(soon())).unread, "a lost connection is a reason to read"
        with pytest.raises(Unreadable) as blind:
            await observer.read(batch.cursor)
        assert blind.value.reason == "unreachable"
        await post.deliver("meanwhile")
        await post.servers.resume()
        batch = await observer.read(batch.cursor)
    assert subjects(batch.messages) == ["meanwhile"]
    assert [message.how for message in batch.messages] == [How.HISTORY]
    assert batch.readings["email"].continues


async def test_another_instance_resumes(post: Post) -> None:
    """A cursor means the same to a later observer: nothing twice, nothing missing, coverage unbroken."""
    async with post.observer() as observer:
        cursor = (await observer.read(None)).cursor
        await post.deliver("one")
        batch = await observer.read(cursor)
        assert subjects(batch.messages) == ["one"]
    await post.deliver("two")
    await post.deliver("spam", "Junk")
    async with post.observer() as observer:
        batch = await observer.read(batch.cursor)
    assert sorted(subjects(batch.messages)) == ["spam", "two"]
    assert batch.readings["email"].continues


async def test_a_new_uidvalidity_begins_anew(post: Post) -> None:
    """When the UIDs mean something else the newest messages are read as history and coverage begins anew."""
    async with post.observer() as observer:
        batch = await observer.read(None)
        await post.deliver("old")
        batch = await observer.read(batch.cursor)
        post.servers.new_validity(ADA)
        for number in range(REREAD + 5):
            await post.deliver(f"{number}")
        again = await observer.read(batch.cursor)
        assert subjects(again.messages) == [f"{number}" for number in range(5, REREAD + 5)]
        assert {message.how for message in again.messages} == {How.HISTORY}
        assert not again.readings["email"].continues
        assert not {message.id for message in batch.messages} & {message.id for message in again.messages}
        last = await observer.read(again.cursor)
        assert last.messages == ()
        assert last.readings["email"].continues


async def test_a_flood_is_read_in_parts_that_cover_nothing_yet(post: Post) -> None:
    """A read that cannot return everything at once claims no coverage, asks to be repeated, and loses nothing."""
    async with post.observer(junk="none") as observer:
        batch = await observer.read(None)
        for number in range(2005):
            await post.deliver(f"{number}")
        first = await observer.read(batch.cursor)
        assert dict(first.readings) == {}
        assert (await observer.wait(soon())).unread
        second = await observer.read(first.cursor)
    assert second.readings["email"].continues
    assert subjects([*first.messages, *second.messages]) == [f"{number}" for number in range(2005)]


async def test_junk_is_misplaced(post: Post) -> None:
    """A mail in the folder that the server marks as Junk wakes too, and is misplaced; with junk: none it is unseen."""
    async with post.observer() as observer, post.observer(junk="none") as blinkered:
        batch, other = await observer.read(None), await blinkered.read(None)
        await post.deliver("spam", "Junk")
        assert (await observer.wait(soon())).unread
        batch = await observer.read(batch.cursor)
        assert [(message.misplaced, message.id.split("/")[0]) for message in batch.messages] == [(True, "Junk")]
        assert (await blinkered.read(other.cursor)).messages == ()


async def test_a_moved_mail_keeps_its_fingerprint(post: Post) -> None:
    """The same mail in two folders has two ids and one fingerprint; another mail has another."""
    async with post.observer() as observer:
        batch = await observer.read(None)
        await post.deliver("same")
        await post.deliver("same", "Junk")
        await post.deliver("other")
        batch = await observer.read(batch.cursor)
    by_subject = [(message.texts[0], message.fingerprint) for message in batch.messages]
    assert len({message.id for message in batch.messages}) == 3
    assert len(set(by_subject)) == 2


async def test_reading_marks_nothing_as_seen(post: Post) -> None:
    """A mail that the observer has read is still unread for its owner."""

    def unseen() -> int:
        with IMAPClient("127.0.0.1", post.servers.imap_port, ssl=False, timeout=5) as client:
            client.login(ADA, PASSWORD)
            client.select_folder("INBOX", readonly=True)
            return len(client.search("UNSEEN"))

    async with post.observer() as observer:
        batch = await observer.read(None)
        await post.deliver("hello")
        assert len((await observer.read(batch.cursor)).messages) == 1
        assert await asyncio.to_thread(unseen) == 1


async def test_each_mail_goes_to_its_channel(post: Post) -> None:
    """Of a mailbox with several channels each mail belongs to its recipient's; a stranger's belongs to none."""
    tagged = Channel("tagged", ChannelKind.EMAIL, "mailbox", "ada+news@w.sandbox.example")
    async with post.observer((EMAIL, tagged)) as observer:
        batch = await observer.read(None)
        await post.deliver("exact", to="Ada+News@w.sandbox.example")
        await post.deliver("base", to="ada+other@w.sandbox.example")
        await post.deliver("nobody", to="eve@w.sandbox.example")
        batch = await observer.read(batch.cursor)
    assert set(batch.readings) == {"email", "tagged"}
    assert {message.texts[0]: message.channel for message in batch.messages} == {"exact": "tagged", "base": "email"}


def test_the_envelope_outweighs_the_letter_head() -> None:
    """Where a server noted whom it delivered to, To and Cc do not count."""
    other = Channel("other", ChannelKind.EMAIL, "mailbox", "bob@w.sandbox.example")
    head = b"To: ada@w.sandbox.example, bob@w.sandbox.example\n"
    assert addressed(read_mail(head + b"\n"), (EMAIL, other)) == (EMAIL, other)
    assert addressed(read_mail(b"Delivered-To: bob@w.sandbox.example\n" + head + b"\n"), (EMAIL, other)) == (other,)


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
    async with post.observer() as observer:
        batch = await observer.read(None)
        post.faults.requests["noop"] = RequestFault(status=0)
        with pytest.raises(Unreadable):
            await observer.read(batch.cursor)
        post.faults.requests.clear()
        assert (await observer.read(batch.cursor)).readings["email"].continues


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


async def quick_exit(observer: ImapObserver, act: Callable[[], asyncio.Task[Batch]] | None = None) -> float:
    """Seconds that leaving an entered observer takes, which must not fail."""
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
    observer = post.observer(read_timeout=20)
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


async def test_a_cancelled_read_harms_nobody(post: Post) -> None:
    """A read that its caller gives up leaves the observer able to read on."""
    async with post.observer() as observer:
        batch = await observer.read(None)
        await post.deliver("kept")
        reading = asyncio.create_task(observer.read(batch.cursor))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert subjects((await observer.read(batch.cursor)).messages) == ["kept"]


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
