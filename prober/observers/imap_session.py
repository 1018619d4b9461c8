"""One IMAP connection with one folder open, for one thread. All that imapclient does wrong is dealt with here."""

from __future__ import annotations

import imaplib
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from prober.durations import parse_duration
from prober.errors import Unreadable
from prober.observers.mail import LIMIT

Duration = Annotated[float, BeforeValidator(parse_duration)]

CHUNK = 25
"""Messages that are fetched by one command."""

_WORDS_OF_A_LOST_LINE = ("EOF", "socket error", "BYE", "UNAVAILABLE", "unterminated line")


class ImapSettings(BaseModel):
    """How to reach one mailbox. Durations in seconds or as written (``100ms``).

    ``junk`` is ``auto`` (the folder that the server marks as \\Junk), ``none`` or a folder's name; ``poll`` the
    period of reads while deliveries are open; ``renew`` how long an IDLE lasts before it is entered again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = Field(min_length=1)
    port: int = Field(default=0, ge=0, le=65535)
    username: str = Field(min_length=1)
    password: SecretStr
    tls: Literal["tls", "starttls", "none"] = "tls"
    verify: bool = True
    ca_file: str | None = None
    folder: str = "INBOX"
    junk: str = "auto"
    poll: Annotated[Duration, Field(gt=0)] = 1.0
    max_message_bytes: int = Field(default=LIMIT, ge=1024)
    connect_timeout: Annotated[Duration, Field(gt=0)] = 5.0
    read_timeout: Annotated[Duration, Field(gt=0)] = 10.0
    renew: Annotated[Duration, Field(gt=0)] = 240.0

    @model_validator(mode="before")
    @classmethod
    def _drop_adapter(cls, raw: Any) -> Any:
        """The configuration's ``adapter: imap`` chose this model and says no more."""
        if isinstance(raw, dict) and raw.get("adapter") == "imap":
            return {name: value for name, value in raw.items() if name != "adapter"}
        return raw

    @model_validator(mode="after")
    def _distinct_folders(self) -> Self:
        if self.junk == self.folder:
            raise ValueError("junk and folder name the same folder: name another one, or write junk: none")
        return self

    @property
    def used_port(self) -> int:
        return self.port or (993 if self.tls == "tls" else 143)


@dataclass(frozen=True, slots=True)
class Fetched:
    """One message as the server gave it: its first bytes, and when the server says that it came (wall seconds)."""

    uid: int
    raw: bytes
    size: int
    received: float | None


class Lifeline:
    """Lets another thread end whatever a connection is waiting for, for good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: socket.socket | None = None
        self._cut = False

    def hold(self, sock: socket.socket) -> None:
        """Hold on to a connection, instead of the one before. ConnectionAbortedError: the lifeline has been cut."""
        self.release()
        with self._lock:
            if self._cut:
                raise ConnectionAbortedError("stopped")
            # A duplicate shares the connection and survives its being wrapped in TLS.
            self._held = sock.dup()

    def release(self) -> None:
        with self._lock:
            held, self._held = self._held, None
        if held is not None:
            held.close()

    def cut(self) -> None:
        """End the connection that is held, and every one to come."""
        with self._lock:
            self._cut = True
            if self._held is not None:
                with suppress(OSError):
                    self._held.shutdown(socket.SHUT_RDWR)


class Session:
    """A logged-in connection with one folder open read-only, so that nothing is ever marked as seen.

    Every method raises Unreadable when the server cannot be heard; the session is then of no more use.
    """

    def __init__(self, settings: ImapSettings, folder: str, lifeline: Lifeline) -> None:
        self._settings = settings
        self._lifeline = lifeline
        self.folder = folder
        self.reads = 0
        client: IMAPClient | None = None
        try:
            with translated(settings, "connect to"):
                client = _Client(settings, lifeline)
            with translated(settings, "log in to"):
                _log_in(client, settings)
            with translated(settings, f"open the folder {folder!r} of"):
                opened = client.select_folder(folder, readonly=True)
            self._client = client
            self.validity = int(opened.get(b"UIDVALIDITY") or 0)
            self.last_uid_at_opening = max(int(opened.get(b"UIDNEXT") or 0) - 1, 0)
            if not self.validity:
                raise Unreadable("protocol", f"{settings.host} gives no UIDVALIDITY: its UIDs cannot be trusted")
            with translated(settings, "ask"):
                self.pushes = bool(client.has_capability("IDLE"))
        except BaseException:
            lifeline.release()
            if client is not None:
                _shut(client)
            raise

    def close(self) -> None:
        self._lifeline.release()
        _shut(self._client)

    def synchronise(self) -> None:
        """Have the server look for what is new: a SEARCH alone may answer from what it last announced."""
        with translated(self._settings, "ask"):
            self._client.noop()
            self._client._imap.untagged_responses.clear()

    def last_uid(self) -> int:
        """The highest UID that a message has, or had when the folder was opened."""
        return max([self.last_uid_at_opening, *self.uids_after(self.last_uid_at_opening)])

    def uids_after(self, last: int) -> list[int]:
        """The UIDs above ``last``, ascending."""
        with translated(self._settings, "search"):
            # A range that ends in * always answers with at least the last message.
            return sorted(uid for uid in map(int, self._client.search(["UID", f"{last + 1}:*"])) if uid > last)

    def sizes(self, uids: Sequence[int]) -> list[int]:
        """How many bytes would be fetched of each message."""
        with translated(self._settings, "fetch from"):
            answer = self._client.fetch(uids, ["RFC822.SIZE"]) if uids else {}
            told = [int(answer.get(uid, {}).get(b"RFC822.SIZE") or 0) for uid in uids]
        return [min(size, self._settings.max_message_bytes) for size in told]

    def fetch(self, uids: Sequence[int]) -> Iterator[list[Fetched]]:
        """The messages, in chunks, each as soon as it is in our hands; what was removed meanwhile is left out."""
        body = f"BODY.PEEK[]<0.{self._settings.max_message_bytes}>"
        for start in range(0, len(uids), CHUNK):
            chunk = list(uids[start : start + CHUNK])
            with translated(self._settings, "fetch from"):
                answer = self._client.fetch(chunk, [body, "INTERNALDATE", "RFC822.SIZE"])
                found = [_fetched(uid, answer[uid]) for uid in chunk if uid in answer]
            yield found

    def find_junk(self) -> str | None:
        """The folder that the server marks as Junk; never guessed by its name."""
        with translated(self._settings, "list the folders of"):
            listed = self._client.list_folders()
        for flags, _, name in listed:
            uses = {bytes(flag).lower() for flag in flags}
            if b"\\junk" in uses and not uses & {b"\\noselect", b"\\nonexistent"}:
                return str(name)
        return None

    def take_announced(self) -> bool:
        """Whether the server announced a message beside an answer since the last call or synchronisation.

        It will not push what it has announced, and a search that went before has not seen it.
        """
        return self._client._imap.untagged_responses.pop("EXISTS", None) is not None

    def enter_idle(self) -> bool:
        """Ask for pushes; True when one is already here, read together with the answer."""
        with translated(self._settings, "listen to"):
            early = _idle(self._client)
            return _has_buffered(self._client) or early

    def leave_idle(self) -> bool:
        """End the pushes; True when a new message was announced."""
        with translated(self._settings, "listen to"):
            _, said = self._client.idle_done()
        self.take_announced()
        return any(len(line) > 1 and line[1] in (b"EXISTS", b"RECENT") for line in said)

    def fileno(self) -> int:
        return int(self._client.socket().fileno())


@contextmanager
def translated(settings: ImapSettings, doing: str) -> Iterator[None]:
    """Turn whatever imapclient, imaplib, ssl and sockets raise into Unreadable."""
    try:
        yield
    except (IMAPClientError, OSError, EOFError, ValueError, LookupError, AssertionError, TypeError) as error:
        raise unreadable(error, settings, doing) from _without_secrets(error)


def unreadable(error: Exception, settings: ImapSettings, doing: str) -> Unreadable:
    """The one place where foreign errors get a reason: unreachable, login_refused, tls, folder_missing, protocol or
    timeout."""
    place = f"{settings.host}:{settings.used_port}"
    said = _said(error, settings)
    reason, mend = _reason(error, doing)
    return Unreadable(reason, f"cannot {doing} {place}: {said}; {mend}" if said else f"cannot {doing} {place}; {mend}")


def _reason(error: Exception, doing: str) -> tuple[str, str]:
    text = str(error)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) and not doing.startswith("connect"):
        return "unreachable", "the connection was cut"
    if isinstance(error, (FileNotFoundError, PermissionError)):
        return "tls", "check ca_file"
    if isinstance(error, (ssl.SSLError, ssl.CertificateError)):
        return "tls", "check tls, ca_file and the server's certificate (verify: false trusts any)"
    if isinstance(error, TimeoutError) or "timed out" in text:
        return "timeout", "the server does not answer in time; check host, port and firewall"
    if isinstance(error, socket.gaierror):
        return "unreachable", "the name cannot be resolved; check host and DNS"
    if isinstance(error, OSError) or any(word in text for word in _WORDS_OF_A_LOST_LINE):
        return "unreachable", "check that the server runs and that host and port are right"
    if "STARTTLS" in text or "TLS not supported" in text:
        return "tls", "the server offers no STARTTLS; check tls and port"
    if isinstance(error, LoginError):
        return "login_refused", "check username and password"
    lost = isinstance(error, IMAPClientAbortError)
    if doing.startswith("open the folder") and isinstance(error, IMAPClientError) and not lost:
        return "folder_missing", "check the folder's name and the account's rights"
    return "protocol", "the server's answer cannot be understood"


_BYTES = re.compile(r"""\bb(['"])(.*?)\1""")
"""The server's words as imaplib shows them: ``b'[AUTHENTICATIONFAILED] no'``."""


def _said(error: Exception, settings: ImapSettings) -> str:
    """What the error says, shortened, without our secret should the server repeat it."""
    if isinstance(error, UnicodeError):
        return "a text that IMAP cannot carry"
    said = _BYTES.sub(r"\2", " ".join(str(error).split()))
    secret = settings.password.get_secret_value()
    return (said.replace(secret, "***") if secret else said)[:300]


def _without_secrets(error: Exception) -> Exception | None:
    """The cause to chain: none where it would show an object that may hold the password."""
    return None if isinstance(error, (UnicodeError, LoginError)) else error


def _fetched(uid: int, answer: dict[bytes, Any]) -> Fetched:
    body = next((value for name, value in answer.items() if name.startswith(b"BODY[")), None)
    received = answer.get(b"INTERNALDATE")
    return Fetched(
        uid=uid,
        raw=bytes(body or b""),
        size=int(answer.get(b"RFC822.SIZE") or 0),
        received=received.timestamp() if isinstance(received, datetime) and received.tzinfo else None,
    )


class _Imap4(imaplib.IMAP4):
    """imaplib over a connection that somebody else opens."""

    def __init__(self, host: str, port: int, connect: Callable[[], socket.socket]) -> None:
        self._connect_socket = connect
        super().__init__(host, port)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        return self._connect_socket()


class _Client(IMAPClient):  # type: ignore[misc]
    """imapclient whose connection can be cut at any moment, and which does not wait 40 ms for every command."""

    def __init__(self, settings: ImapSettings, lifeline: Lifeline) -> None:
        self._settings = settings
        self._lifeline = lifeline
        timeout = SocketTimeout(settings.connect_timeout, settings.read_timeout)
        super().__init__(settings.host, settings.used_port, ssl=False, timeout=timeout)
        # Its own log would hold the login.
        self._imap.debug = 0
        self.normalise_times = False
        if settings.tls == "starttls":
            try:
                self.starttls(_tls_context(settings))
            except BaseException:
                _shut(self)
                raise

    def _create_IMAP4(self) -> imaplib.IMAP4:
        return _Imap4(self._settings.host, self._settings.used_port, self._open)

    def _open(self) -> socket.socket:
        settings = self._settings
        sock = _connected(settings.host, settings.used_port, settings.connect_timeout, self._lifeline)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(settings.read_timeout)
            if settings.tls == "tls":
                return _tls_context(settings).wrap_socket(sock, server_hostname=settings.host)
        except BaseException:
            sock.close()
            raise
        return sock


def _connected(host: str, port: int, timeout: float, lifeline: Lifeline) -> socket.socket:
    """A connection to the first address that answers, cut by the lifeline also while it is being made."""
    failure: OSError = ConnectionError("the name has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout)
            lifeline.hold(sock)
            sock.connect(address)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def _tls_context(settings: ImapSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ca_file)
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _log_in(client: IMAPClient, settings: ImapSettings) -> None:
    password = settings.password.get_secret_value()
    if settings.username.isascii() and password.isascii():
        client.login(settings.username, password)
    else:
        client.plain_login(settings.username, password)  # LOGIN carries ASCII only


def _idle(client: IMAPClient) -> bool:
    """Enter IDLE; True when the server spoke before it agreed, which imapclient's own ``idle`` takes for an error."""
    imap = client._imap
    tag = client._idle_tag = imap._command("IDLE")
    early = False
    while (line := imap._get_response()) is not None:
        if imap.tagged_commands.get(tag):
            raise IMAPClientError(f"IDLE was refused: {line!r}")
        early = True
    return early


def _has_buffered(client: IMAPClient) -> bool:
    """Whether bytes wait in the client's own buffers, where no poll of the socket would show them."""
    sock = client.socket()
    stream = getattr(client._imap, "_file", None) or client._imap.file
    timeout = sock.gettimeout()
    sock.setblocking(False)
    try:
        return bool(stream.peek(1))
    except OSError:
        return False  # TLS says in this way that nothing is there
    finally:
        sock.settimeout(timeout)


def _shut(client: IMAPClient) -> None:
    with suppress(OSError, imaplib.IMAP4.error):
        client.shutdown()
