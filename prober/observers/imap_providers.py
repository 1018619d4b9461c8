"""What is known of the big mailbox providers and servers, in one table: facts that other modules act upon.

Sources: developers.google.com/gmail/imap (sessions, connections, XOAUTH2), Microsoft's "Authenticate an IMAP, POP or
SMTP connection using OAuth" and "Deprecation of Basic authentication in Exchange Online" (October 2022), RFC 8601
(authserv-id), and measurements on Dovecot 2.3 (its 500 ms hold; X-GUID; ten logins per user and address).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Provider:
    """The peculiarities of one provider or server.

    ``hosts`` are domains whose servers are this provider's, ``identities`` how its server names itself (RFC 2971).
    ``passwords`` says whether it takes any. ``connections`` is how many it allows at once, ``session`` after how many
    seconds it ends one. ``tells`` says that NOOP shows what is new: where nobody knows, the folder is opened anew for
    each read. ``guids``: FETCH X-GUID works. ``authserv_ids`` are whose Authentication-Results can be trusted, ``""``
    those without an id. ``token_url`` and ``scope`` are where and for what an access token is asked; ``mend`` is what
    helps against a refused login.
    """

    name: str
    hosts: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    passwords: bool = True
    connections: int | None = None
    session: float | None = None
    tells: bool = False
    guids: bool = False
    authserv_ids: tuple[str, ...] = ()
    token_url: str = ""
    scope: str = ""
    mend: str = ""


UNKNOWN = Provider("any other", mend="check username and password")

PROVIDERS = (
    Provider(
        name="Gmail",
        hosts=("gmail.com", "googlemail.com"),
        identities=("gimap",),
        connections=15,
        session=86_400.0,
        tells=True,
        authserv_ids=("mx.google.com",),
        token_url="https://oauth2.googleapis.com/token",  # noqa: S106 - a place, no secret
        scope="https://mail.google.com/",
        mend="Gmail takes app passwords (with 2-step verification) or oauth2, never the account's own password",
    ),
    Provider(
        name="Microsoft 365",
        hosts=("office365.com", "outlook.com", "hotmail.com", "outlook.office.com"),
        identities=("microsoft.exchange",),
        passwords=False,
        connections=20,
        session=3_600.0,
        tells=True,
        authserv_ids=("",),
        scope="https://outlook.office365.com/.default",
        mend="Microsoft 365 takes only oauth2: give the app IMAP.AccessAsApp and a permission on this mailbox",
    ),
    Provider(
        name="Dovecot",
        identities=("dovecot",),
        connections=10,
        tells=True,
        guids=True,
        mend="check username and password",
    ),
)
"""From the top down: the first that matches is it."""


def provider_of(host: str, identity: str = "") -> Provider:
    """Whose server it is, by its name in the network or by what it calls itself."""
    name, calls_itself = host.lower().rstrip("."), identity.lower()
    for provider in PROVIDERS:
        if any(name == domain or name.endswith(f".{domain}") for domain in provider.hosts):
            return provider
        if calls_itself and calls_itself.startswith(provider.identities):
            return provider
    return UNKNOWN


def called(answer: Sequence[object]) -> str:
    """The server's name in an answer to ID: names and values in turn; empty where it says none."""
    fields = answer[0] if answer and isinstance(answer[0], tuple) else ()
    texts = [field.decode("ascii", "replace") if isinstance(field, bytes) else "" for field in fields]
    pairs = dict(zip(texts[::2], texts[1::2], strict=False))
    return next((value for name, value in pairs.items() if name.lower() == "name"), "")[:100]
