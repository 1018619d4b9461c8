"""XOAUTH2 against Debian's Dovecot, which has each token verified by the endpoint that issued it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from prober.acts import Acts
from prober.errors import Unreadable
from prober.findings import State
from prober.observers.imap import ImapObserver
from prober.observers.imap_examination import examine
from prober.sandbox.manual_clock import ManualClock
from prober.sandbox.token_endpoint import TokenEndpoint
from tests.conformance.scripted_api import raw_server, whole_request
from tests.real.watching import CLOCK, letter, next_messages, observer, refusal, soon
from tests.servers.certificates import Authority
from tests.servers.dovecot import Dovecot, Mailbox, dovecot
from tests.servers.programs import HOST, free_port

SECRET = "canary-client-secret"
REFRESH = "canary-refresh-token"


@pytest.fixture(scope="module")
def introspection_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(introspection_port: int) -> Iterator[Dovecot]:
    with dovecot(introspection_url=f"http://{HOST}:{introspection_port}/introspect") as running:
        yield running


@pytest.fixture
def box(server: Dovecot) -> Mailbox:
    return server.mailbox()


@pytest.fixture
async def endpoint(introspection_port: int, box: Mailbox) -> AsyncIterator[TokenEndpoint]:
    its = TokenEndpoint(CLOCK, apps={"prober": (SECRET, box.user)}, refresh_tokens={REFRESH: box.user})
    await its.start(introspection_port)
    yield its
    await its.stop()


def by_credentials(endpoint: TokenEndpoint, **changes: Any) -> dict[str, Any]:
    """How a mailbox at Microsoft 365 is configured."""
    return {"grant": "client_credentials", "token_url": endpoint.token_url, "client_id": "prober",
            "client_secret": SECRET, **changes}  # fmt: skip


def by_refresh_token(endpoint: TokenEndpoint, **changes: Any) -> dict[str, Any]:
    """How a mailbox at Gmail is configured."""
    return by_credentials(endpoint, grant="refresh_token", refresh_token=REFRESH, **changes)


def tokened(box: Mailbox, oauth2: dict[str, Any], **changes: Any) -> ImapObserver:
    """An observer of the inbox alone that has no password."""
    return observer(box, without=("password",), junk="none", oauth2=oauth2, **changes)


def clean(error: BaseException) -> bool:
    """Whether no secret is in an error or in what it shows beside itself."""
    return "canary" not in repr((error, error.__cause__, error.__context__)) + str(error)


@pytest.mark.parametrize("grant", [by_credentials, by_refresh_token])
async def test_a_mailbox_is_read_with_a_token(box: Mailbox, endpoint: TokenEndpoint, grant: Any) -> None:
    """One token, fetched once, opens both folders' connections, and mail is seen as with a password."""
    async with observer(box, without=("password",), oauth2=grant(endpoint)) as watched:
        batch = await watched.read(None)
        box.put(letter("hello"))
        (message,), _ = await next_messages(watched, batch.cursor)
    assert message.texts[0] == "hello"
    assert endpoint.grants == [grant(endpoint)["grant"]]
    assert "method=XOAUTH2" in box.server.log.read_text()


async def test_a_token_is_renewed_before_its_end(box: Mailbox, endpoint: TokenEndpoint) -> None:
    """A connection that is made while the token serves uses it again; shortly before its end it is fetched anew."""
    clock = ManualClock()
    async with tokened(box, by_credentials(endpoint), clock=clock) as watched:
        batch = await watched.read(None)
        for passed, fetched in ((3000.0, 1), (545.0, 2)):
            await clock.advance(passed)
            await lose_connection(watched)
            batch = await watched.read(batch.cursor)
            assert len(endpoint.grants) == fetched


async def test_a_refused_token_is_fetched_anew(box: Mailbox, endpoint: TokenEndpoint) -> None:
    """A token that was revoked before its end is replaced by the very read that meets the refusal."""
    async with tokened(box, by_refresh_token(endpoint)) as watched:
        batch = await watched.read(None)
        endpoint.revoke()
        await lose_connection(watched)
        box.put(letter("after"))
        messages, _ = await next_messages(watched, batch.cursor)
    assert [message.texts[0] for message in messages] == ["after"]
    assert len(endpoint.grants) == 2


async def test_a_fresh_token_that_is_refused_is_no_loop(box: Mailbox, endpoint: TokenEndpoint) -> None:
    """A server that takes no token at all is asked once for each read, with the reason that it gives."""
    endpoint.apps["prober"] = (SECRET, "somebody-else")
    async with tokened(box, by_credentials(endpoint)) as watched:
        for reads in (1, 2):
            with pytest.raises(Unreadable) as blind:
                await watched.read(None)
            assert blind.value.reason == "login_refused"
            assert "invalid_token" in blind.value.detail or "401" in blind.value.detail
            assert clean(blind.value)
            assert len(endpoint.grants) == reads


async def test_a_rotated_refresh_token_serves_on(box: Mailbox, endpoint: TokenEndpoint) -> None:
    """Where each renewal hands out another refresh token, the latest one is used."""
    endpoint.rotates = True
    async with tokened(box, by_refresh_token(endpoint)) as watched:
        batch = await watched.read(None)
        for _ in range(2):
            endpoint.revoke()
            await lose_connection(watched)
            batch = await watched.read(batch.cursor)
    assert len(endpoint.grants) == 3


async def test_a_replaced_refresh_token_outlives_a_restart(box: Mailbox, endpoint: TokenEndpoint) -> None:
    """Kept in its file, for its owner only, the latest one serves the next process; the configured one is used up."""
    endpoint.rotates = True
    kept = box.server.folder / "refresh-token"
    settings = by_refresh_token(endpoint, refresh_token_file=str(kept))
    for _ in range(3):
        async with tokened(box, settings) as watched:
            await watched.read(None)
        (act,) = watched.acts.take(whole=True)
        assert (act.kind, act.place, act.subject) == ("token", f"POST {endpoint.token_url}", "refresh_token")
        assert act.answer.startswith("granted for ")
        assert act.answer.endswith("s, refresh token replaced, kept in its file")
        assert "canary" not in repr(act)
    assert len(endpoint.grants) == 3
    assert kept.read_text().strip() in endpoint.refresh_tokens
    assert REFRESH not in endpoint.refresh_tokens
    assert kept.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in kept.parent.glob(".refresh-token*")] == []


async def test_a_replaced_refresh_token_that_is_not_kept_is_said(box: Mailbox, endpoint: TokenEndpoint) -> None:
    """Without a file for it, or with one that cannot be written, the log says so at once, and check how to mend it."""
    endpoint.rotates = True
    for oauth2, why in (
        (by_refresh_token(endpoint), "no refresh_token_file"),
        (by_refresh_token(endpoint, refresh_token_file="/proc/no-such-folder/token"), "cannot be written"),
    ):
        endpoint.refresh_tokens[REFRESH] = box.user
        with capture_logs() as logs:
            async with tokened(box, oauth2) as watched:
                await watched.read(None)
        (said,) = [line for line in logs if line["action"] == "refresh_token_unkept"]
        assert why in said["why"]
        endpoint.refresh_tokens[REFRESH] = box.user
        raw = {name: value for name, value in box.settings(oauth2=oauth2, junk="none").items() if name != "password"}
        acts = Acts(CLOCK)
        examined = await examine("mailbox", raw, (), CLOCK, post=False, acts=acts)
        assert [act.answer.endswith("refresh token replaced, in memory only") for act in acts.take()] == [True]
        (finding,) = [finding for finding in examined.findings if finding.subject == "refresh token"]
        assert (finding.state, why in finding.sentence) == (State.WARNING, True)
        assert "refresh_token_file" in finding.mend
        assert "canary" not in repr((logs, examined))


@pytest.mark.parametrize(
    ("changes", "reason", "mend"),
    [
        ({"client_secret": "canary-wrong"}, "login_refused", "check client_id"),
        ({"grant": "refresh_token", "refresh_token": "canary-old"}, "login_refused", "consent again"),
        ({"status": 503}, "unreachable", "asked again"),
        ({"token_url": "http://127.0.0.1:1/token"}, "unreachable", "check token_url"),
        ({"token_url": "https://no-such-host.invalid/token"}, "unreachable", "check token_url"),
    ],
)
async def test_a_token_that_cannot_be_had_says_why(
    box: Mailbox, endpoint: TokenEndpoint, changes: dict[str, Any], reason: str, mend: str
) -> None:
    """The endpoint's refusal, its absence and its failure are told apart, each with the mend and no secret."""
    endpoint.status = changes.pop("status", None)
    blind = await refusal(tokened(box, by_credentials(endpoint, **changes)))
    assert (blind.reason, clean(blind)) == (reason, True), blind
    assert mend in blind.detail


async def test_while_a_renewal_fails_the_old_token_serves(box: Mailbox, endpoint: TokenEndpoint) -> None:
    """A token endpoint that is down is no blindness as long as the token at hand has not ended."""
    clock = ManualClock()
    async with tokened(box, by_credentials(endpoint), clock=clock) as watched:
        batch = await watched.read(None)
        endpoint.status = 503
        await clock.advance(3550)
        await lose_connection(watched)
        batch = await watched.read(batch.cursor)
        await clock.advance(60)
        await lose_connection(watched)
        with pytest.raises(Unreadable) as blind:
            await watched.read(batch.cursor)
        assert blind.value.reason == "unreachable"
        endpoint.status = None
        assert (await watched.read(batch.cursor)).readings["email"].continues


async def test_the_token_endpoint_is_verified(box: Mailbox, endpoint: TokenEndpoint) -> None:
    """Over https the endpoint must show a certificate of the public authorities, or of ca_file's."""
    authority = Authority(box.server.folder, "token-ca")
    issued = authority.issue("localhost", name="token-server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    forwarded: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        forwarded.append(await whole_request(reader))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n{"access_token": "not-one", "expires_in": 9}')
        await writer.drain()

    async with raw_server(talk, context) as raw:
        url = f"https://localhost:{raw.origin.rpartition(':')[2]}/token?api=1"
        unknown = await refusal(tokened(box, by_credentials(endpoint, token_url=url)))
        assert unknown.reason == "tls"
        assert "oauth2.ca_file" in unknown.detail
        assert "verify: false" not in unknown.detail
        assert forwarded == []
        trusting = by_credentials(endpoint, token_url=url, ca_file=str(authority.file))
        known = await refusal(tokened(box, trusting))
    assert known.reason == "login_refused", known
    assert forwarded[0].startswith(b"POST /token?api=1 ")
    assert clean(known)


async def test_an_endpoint_that_talks_nonsense_is_told(box: Mailbox, endpoint: TokenEndpoint) -> None:
    """What is no HTTP, and an answer without a token, are protocol errors of the token endpoint."""
    for answer in (b"\x00nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"):

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes = answer) -> None:
            await whole_request(reader)
            writer.write(said)
            await writer.drain()

        async with raw_server(talk) as raw:
            oauth2 = by_credentials(endpoint, token_url=f"http://{raw.origin}/token")
            blind = await refusal(tokened(box, oauth2))
        assert (blind.reason, clean(blind)) == ("protocol", True)


async def lose_connection(watched: Any) -> None:
    """End the inbox's connection; returns when the observer has noticed."""
    for watch in watched._watches.values():
        if (session := watch._session) is not None:
            with session._lifeline._lock:
                session._lifeline._held.shutdown(2)
    assert (await asyncio.wait_for(watched.wait(soon()), 30)).unread
