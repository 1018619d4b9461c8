"""One connection to a mail server that can be cut at any moment. All that imapclient does wrong is dealt with here."""

from __future__ import annotations

import imaplib
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import IMAPClientError

from prober.observers.imap_settings import ImapSettings


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

    @property
    def is_cut(self) -> bool:
        with self._lock:
            return self._cut

    def cut(self) -> None:
        """End the connection that is held, and every one to come."""
        with self._lock:
            self._cut = True
            if self._held is not None:
                with suppress(OSError):
                    self._held.shutdown(socket.SHUT_RDWR)


class _Imap4(imaplib.IMAP4):
    """imaplib over a connection that somebody else opens."""

    def __init__(self, host: str, port: int, connect: Callable[[], socket.socket]) -> None:
        self._connect_socket = connect
        super().__init__(host, port)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        return self._connect_socket()


class Client(IMAPClient):  # type: ignore[misc]
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
                self.starttls(tls_context(settings.ca_file, verify=settings.verify))
            except BaseException:
                shut(self)
                raise

    def _create_IMAP4(self) -> imaplib.IMAP4:
        return _Imap4(self._settings.host, self._settings.used_port, self._open)

    def _open(self) -> socket.socket:
        settings = self._settings
        sock = connected(settings.host, settings.used_port, settings.connect_timeout, self._lifeline)
        try:
            sock.settimeout(settings.read_timeout)
            if settings.tls == "tls":
                context = tls_context(settings.ca_file, verify=settings.verify)
                return context.wrap_socket(sock, server_hostname=settings.host)
        except BaseException:
            sock.close()
            raise
        return sock


def connected(host: str, port: int, timeout: float, lifeline: Lifeline) -> socket.socket:
    """A connection to the first address that answers, cut by the lifeline also while it is being made."""
    failure: OSError = ConnectionError("the name has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(timeout)
            lifeline.hold(sock)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure


def tls_context(ca_file: str | None, *, verify: bool = True) -> ssl.SSLContext:
    """What a server must show: a certificate of a public authority, or of ``ca_file``'s, for its name."""
    context = ssl.create_default_context(cafile=ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def idle(client: IMAPClient) -> bool:
    """Enter IDLE; True when the server spoke before it agreed, which imapclient's own ``idle`` takes for an error."""
    imap = client._imap
    tag = client._idle_tag = imap._command("IDLE")
    early = False
    while (line := imap._get_response()) is not None:
        if imap.tagged_commands.get(tag):
            raise IMAPClientError(f"IDLE was refused: {line!r}")
        early = True
    return early


def has_buffered(client: IMAPClient) -> bool:
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


def shut(client: IMAPClient) -> None:
    with suppress(OSError, imaplib.IMAP4.error):
        client.shutdown()
