"""One HTTP exchange on a connection of its own, timed at its first and last byte, and never repeated.

Every error of httpx is mapped to ours here, in :func:`failure_of`.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from prober import __version__
from prober.clock import Clock, Instant
from prober.errors import ConfigurationError, OwnFault, TargetError, Unanswered, Unreachable
from prober.targets.problems import MOST_DETAIL, Hidden, clean, correlation_id

MOST_BODY = 1_000_000
"""Bytes of an answer that are read; a longer one is cut."""

_MOST_REDIRECTS = 3
_REDIRECTS = (307, 308)
_OURS = frozenset(
    {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
    | {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
)
"""What keeps a connection from being tried at all: no route, no descriptors, a firewall of our own."""

CAUGHT = (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamError, OSError)
"""What an exchange may raise: all of httpx, and TLS errors (an OSError) that it lets through."""

_OWN_ERRORS: Mapping[type[Exception], str] = {
    httpx.PoolTimeout: "the prober's connections are used up",
    httpx.LocalProtocolError: "the prober's request breaks HTTP",
    httpx.UnsupportedProtocol: "the target's url has an unknown scheme",
    httpx.InvalidURL: "the target's url is not valid",
    httpx.CookieConflict: "the prober's cookies contradict each other",
    httpx.StreamError: "the prober's own error in reading an answer",
    httpx.ProxyError: "the proxy did not reach the target",
}
_ANSWER_ERRORS: Mapping[type[Exception], str] = {
    httpx.RemoteProtocolError: "the answer is broken off or no HTTP",
    httpx.DecodingError: "the answer cannot be decompressed",
    httpx.TooManyRedirects: "redirected too often",
    httpx.HTTPStatusError: "an answer without success",
    httpx.NetworkError: "the connection was lost",
    httpx.ProtocolError: "the exchange breaks HTTP",
}


@dataclass(frozen=True, slots=True)
class Request:
    """What leaves us. ``hide`` is what no error may show."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    hide: Hidden = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. Header names are lower-case; ``requested_at`` is the instant just before the first byte left on
    an open connection, ``answered_at`` the end of the body; ``cut`` says that the body was longer than is read."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    requested_at: Instant
    answered_at: Instant
    cut: bool = False
    hide: Hidden = field(default=(), repr=False)


@dataclass(slots=True)
class Departure:
    """How far an exchange has come: when the first byte left (None: it has not), which answer has begun."""

    requested_at: Instant | None = None
    status: int | None = None
    correlation_id: str = ""


def checked_url(url: str) -> str:
    """An http or https URL without credentials, query or final slash. Raises ValueError with the mend."""
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as exc:
        raise ValueError("is no URL") from exc
    if parts.scheme not in ("http", "https") or not parts.host:
        raise ValueError("must begin with http:// or https:// and name a host")
    if parts.userinfo or parts.query or parts.fragment:
        raise ValueError("must hold neither credentials nor a query: secrets have settings of their own")
    return url.rstrip("/")


def tls_context(ca_file: Path | None, *, verify: bool) -> ssl.SSLContext:
    """What a server must show. Raises ConfigurationError for a ``ca_file`` that cannot be used."""
    context = httpx.create_ssl_context(trust_env=False)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    if ca_file is None:
        return context
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as exc:
        problem = f"{ca_file} cannot be used: {exc.strerror or exc}"
        raise ConfigurationError(problem, "name a file of PEM certificates", field="target.ca_file") from exc


class HttpClient:
    """Exchanges with one target: a fresh connection for each, no retries, no cookies, no environment variables.

    ``timeout`` bounds a whole exchange and ``connect_timeout`` its connection, in seconds. Entered as an async
    context manager.
    """

    def __init__(
        self, clock: Clock, *, timeout: float, connect_timeout: float, tls: ssl.SSLContext, proxy: str | None = None
    ) -> None:
        self._clock = clock
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._proxy = proxy
        self._client = httpx.AsyncClient(
            verify=tls,
            proxy=proxy,
            trust_env=False,
            timeout=httpx.Timeout(timeout, connect=connect_timeout, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Connection": "close",
                "User-Agent": f"delivery-prober/{__version__}",
            },
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def exchange(self, request: Request) -> Reply:
        """Send the request once and return the whole answer, of whatever status.

        A 307 or 308 to the same origin is followed, nothing else is. Raises OwnFault or Unreachable when nothing
        was accepted by the target, Unanswered when the request left and no whole answer came.
        """
        departure = Departure()
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            url = httpx.URL(request.url)
            await self._resolve(httpx.URL(self._proxy) if self._proxy else url)
            async with asyncio.timeout_at(deadline):
                return await self._followed(request, url, departure)
        except CAUGHT as exc:
            failure = failure_of(exc, departure, self._clock.now(), request.hide, proxied=self._proxy is not None)
            raise failure from (None if _tells(exc, request.hide) else exc)

    async def _followed(self, request: Request, url: httpx.URL, departure: Departure) -> Reply:
        reply = await self._once(request, url, departure)
        for _ in range(_MOST_REDIRECTS):
            onward = _same_origin(url, reply)
            if onward is None:
                break
            url = onward
            # The first request was not accepted: from here on it is as if it had not left.
            departure.requested_at = departure.status = None
            reply = await self._once(request, url, departure)
        return reply

    async def _resolve(self, url: httpx.URL) -> None:
        """Look the name up first, apart from connecting: a resolver that hangs is not the target's silence."""
        host = url.raw_host.decode("ascii")
        if _is_address(host):
            return
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(self._connect_timeout, self._timeout)):
                await loop.getaddrinfo(host, url.port or url.scheme, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as exc:
            words = "the resolver did not answer" if isinstance(exc, TimeoutError) else clean(exc, MOST_DETAIL)
            raise OwnFault(f"the name {clean(host, 253)} cannot be resolved", words) from exc

    async def _once(self, request: Request, url: httpx.URL, departure: Departure) -> Reply:
        extensions = {"trace": _watching(self._clock, departure)}
        async with self._client.stream(
            request.method, url, headers=dict(request.headers), content=request.body or None, extensions=extensions
        ) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            departure.status = response.status_code
            departure.correlation_id = correlation_id(headers, None, request.hide)
            body, cut = await _bounded(response.aiter_bytes())
            answered_at = self._clock.now()
        if departure.requested_at is None:
            raise RuntimeError("httpcore did not tell when the request left")
        return Reply(response.status_code, headers, body, departure.requested_at, answered_at, cut, hide=request.hide)


def failure_of(
    error: Exception, departure: Departure, now: Instant, hide: Hidden = (), *, proxied: bool = False
) -> TargetError:
    """What an error of httpx, or of the sockets below it, means. ``now`` is when it came."""
    leaves = tuple(_leaves(error))
    words = clean(leaves[0] if str(leaves[0]) else error, MOST_DETAIL, hide)
    left = departure.requested_at
    for kind, title in _OWN_ERRORS.items():
        if isinstance(error, kind):
            return OwnFault(title, "" if kind is httpx.LocalProtocolError else words, requested_at=left)
    if left is None:
        if proxied:
            return OwnFault("the proxy cannot be reached", words)
        if all(_is_ours(leaf) for leaf in leaves):
            return OwnFault("the target cannot be tried from here", words)
        if isinstance(error, (httpx.TimeoutException, TimeoutError)):
            return Unreachable("no connection in time", words)
        return Unreachable("no connection", words)
    late = isinstance(error, (httpx.TimeoutException, TimeoutError))
    titles = (title for kind, title in _ANSWER_ERRORS.items() if isinstance(error, kind))
    return Unanswered(
        "no answer in time" if late else next(titles, "no whole answer"),
        words,
        timeout=late,
        status=departure.status,
        correlation_id=departure.correlation_id,
        requested_at=left,
        answered_at=None if late else now,
    )


def _watching(clock: Clock, departure: Departure) -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """Notes the instant just before the first byte of the request itself leaves (not of a proxy's CONNECT)."""

    async def watch(event: str, told: Mapping[str, Any]) -> None:
        if event == "http11.send_request_headers.started" and told["request"].method != b"CONNECT":
            departure.requested_at = clock.now()

    return watch


async def _bounded(chunks: AsyncIterator[bytes]) -> tuple[bytes, bool]:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MOST_BODY:
            return bytes(body[:MOST_BODY]), True
    return bytes(body), False


def _same_origin(url: httpx.URL, reply: Reply) -> httpx.URL | None:
    """Where a 307 or 308 leads, None when it leads elsewhere or nowhere."""
    location = reply.headers.get("location")
    if reply.status not in _REDIRECTS or not location:
        return None
    try:
        onward = url.join(location)
    except (httpx.InvalidURL, ValueError):
        return None
    if (onward.scheme, onward.host, onward.port) != (url.scheme, url.host, url.port):
        return None
    return url.copy_with(raw_path=onward.raw_path)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _is_ours(leaf: BaseException) -> bool:
    if isinstance(leaf, ssl.SSLError):  # its errno is OpenSSL's: 1 is no EPERM
        return False
    return isinstance(leaf, socket.gaierror) or (isinstance(leaf, OSError) and leaf.errno in _OURS)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The first causes: of several addresses each may have failed in its own way."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
        return
    # httpcore raises again "from None", which leaves its cause only in the context.
    cause = error.__cause__ or (None if isinstance(error, OSError) else error.__context__)
    if isinstance(cause, Exception):
        yield from _leaves(cause)
    else:
        yield error


def _tells(error: BaseException, hide: Hidden) -> bool:
    """Whether an error, or one that it came from, repeats a secret."""
    return any(secret in str(one) for one in _chain(error) for secret in hide)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
