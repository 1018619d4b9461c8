"""A connection that is logged in: by LOGIN, by SASL PLAIN, or by XOAUTH2 with a token that is renewed when refused."""

from __future__ import annotations

from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError
from pydantic import SecretStr

from prober.errors import Unreadable
from prober.observers.imap_connection import Client, Lifeline, shut
from prober.observers.imap_errors import translated
from prober.observers.imap_settings import ImapSettings
from prober.observers.imap_tokens import Tokens


def logged_in(settings: ImapSettings, lifeline: Lifeline, tokens: Tokens | None) -> Client:
    """A new connection, logged in. A token that was fetched earlier and is refused is fetched anew, once.

    Raises Unreadable.
    """
    if tokens is None:
        return _logged_in(settings, lifeline, "")
    token, fresh = tokens.token(lifeline)
    try:
        return _logged_in(settings, lifeline, token)
    except Unreadable as refusal:
        if refusal.reason != "login_refused":
            raise
        tokens.reject(token)
        if fresh:
            raise
    return _logged_in(settings, lifeline, tokens.token(lifeline)[0])


def _logged_in(settings: ImapSettings, lifeline: Lifeline, token: str) -> Client:
    with translated(settings, "connect to"):
        client = Client(settings, lifeline)
    try:
        with translated(settings, "log in to", hide=(token,)):
            if token:
                _present_token(client, settings.username, token)
            else:
                _present_password(client, settings)
    except BaseException:
        shut(client)
        raise
    # What the server offers may have changed, and is asked for anew.
    client._cached_capabilities = None
    return client


def _present_password(client: Client, settings: ImapSettings) -> None:
    password = (settings.password or SecretStr("")).get_secret_value()
    ascii_only = settings.username.isascii() and password.isascii()
    if settings.tls == "none" and "LOGINDISABLED" in client._imap.capabilities:
        raise LoginError("LOGINDISABLED")
    if settings.mechanism == "plain" or (settings.mechanism == "auto" and not ascii_only):
        client.plain_login(settings.username, password)  # LOGIN carries ASCII only
    else:
        client.login(settings.username, password)


def _present_token(client: Client, username: str, token: str) -> None:
    """SASL XOAUTH2: what the server challenges it with is the reason of a refusal, and is answered with nothing."""
    challenges: list[bytes] = []

    def answer(challenge: bytes) -> bytes:
        challenges.append(challenge)
        return b"" if len(challenges) > 1 else f"user={username}\1auth=Bearer {token}\1\1".encode()

    try:
        kind, said = client._imap.authenticate("XOAUTH2", answer)
    except IMAPClientAbortError:
        raise
    except IMAPClientError as error:
        why = challenges[1].decode("utf-8", "replace") if len(challenges) > 1 else ""
        # Without the error's own context: it may show the token.
        raise LoginError(f"{error} {why}".strip()) from None
    if kind != "OK":
        raise LoginError(repr(said))
