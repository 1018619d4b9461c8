"""What the configuration says about one mailbox."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from prober.durations import parse_duration
from prober.observers.imap_providers import Provider, provider_of
from prober.observers.mail import LIMIT

Duration = Annotated[float, BeforeValidator(parse_duration)]

LONGEST_IDLE = 29 * 60.0
"""Seconds after which a server may take an idle client for gone (RFC 2177)."""


class OAuth2Settings(BaseModel):
    """Where an access token comes from (RFC 6749): by ``client_credentials`` (4.4, Microsoft 365) or with a
    ``refresh_token`` (6, Gmail). ``refresh_token_file`` is for providers that replace it at each renewal: written then,
    and once it is there used in the place of ``refresh_token``. ``token_url`` and ``scope`` are known for some
    providers; ``ca_file`` replaces the public authorities for the token endpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    grant: Literal["client_credentials", "refresh_token"]
    token_url: str = ""
    client_id: str = Field(min_length=1)
    client_secret: SecretStr | None = None
    refresh_token: SecretStr | None = None
    refresh_token_file: Path | None = None
    scope: str | None = None
    ca_file: str | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        wanted = "client_secret" if self.grant == "client_credentials" else "refresh_token"
        secret: SecretStr | None = getattr(self, wanted)
        in_file = self.grant == "refresh_token" and self.refresh_token_file is not None
        if not in_file and (secret is None or not secret.get_secret_value()):
            raise ValueError(f"grant: {self.grant} needs {wanted}")
        if self.grant == "client_credentials" and (self.refresh_token or self.refresh_token_file):
            raise ValueError("grant: client_credentials uses no refresh_token: leave it out, or change the grant")
        if self.token_url:
            _check_token_url(self.token_url)
        return self


class ImapSettings(BaseModel):
    """How to reach one mailbox. Durations in seconds or as written (``100ms``).

    It needs a ``password`` or ``oauth2``. ``mechanism`` is how a password is sent: by LOGIN, or by SASL PLAIN
    (``auto``: LOGIN where it can carry it). ``verify: false`` trusts any certificate on this connection.
    ``junk`` is ``auto`` (the folder that the server marks as \\Junk), ``none`` or a folder's name; ``poll`` the
    period of reads while deliveries are open; ``renew`` how long an IDLE lasts before it is entered again; ``idle``
    False leaves it to reads, for processes that end soon;
    ``reopen`` whether the folder is opened anew for each read (``auto``: where it is not known that the server shows
    what is new without). ``authserv_ids`` are whose Authentication-Results are believed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = Field(min_length=1)
    port: int = Field(default=0, ge=0, le=65535)
    username: str = Field(min_length=1)
    password: SecretStr | None = None
    oauth2: OAuth2Settings | None = None
    mechanism: Literal["auto", "login", "plain"] = "auto"
    tls: Literal["tls", "starttls", "none"] = "tls"
    verify: bool = True
    ca_file: str | None = None
    folder: str = "INBOX"
    junk: str = "auto"
    poll: Annotated[Duration, Field(gt=0)] = 1.0
    max_message_bytes: int = Field(default=LIMIT, ge=1024)
    connect_timeout: Annotated[Duration, Field(gt=0)] = 5.0
    read_timeout: Annotated[Duration, Field(gt=0)] = 10.0
    renew: Annotated[Duration, Field(gt=0, lt=LONGEST_IDLE)] = 240.0
    idle: bool = True
    reopen: Literal["auto", "always", "never"] = "auto"
    authserv_ids: tuple[str, ...] | None = None

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

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if (self.password is None) == (self.oauth2 is None):
            raise ValueError("needs exactly one of password and oauth2")
        if self.password is not None and not self.provider.passwords:
            raise ValueError(f"{self.provider.name} takes no passwords: configure oauth2")
        if self.oauth2 is not None and not self.token_url:
            raise ValueError("oauth2 needs the token_url of this provider")
        return self

    @property
    def provider(self) -> Provider:
        """Whose server it is, as far as its host's name tells."""
        return provider_of(self.host)

    @property
    def token_url(self) -> str:
        return (self.oauth2.token_url or self.provider.token_url) if self.oauth2 else ""

    @property
    def scope(self) -> str:
        """For what an access token is asked; a refresh token has its scope already."""
        if self.oauth2 is None or self.oauth2.scope is not None:
            return (self.oauth2.scope or "") if self.oauth2 else ""
        return self.provider.scope if self.oauth2.grant == "client_credentials" else ""

    @property
    def trusted_authserv_ids(self) -> tuple[str, ...]:
        return self.provider.authserv_ids if self.authserv_ids is None else self.authserv_ids

    @property
    def used_port(self) -> int:
        return self.port or (993 if self.tls == "tls" else 143)

    def secrets(self) -> tuple[str, ...]:
        """What no error may show."""
        oauth2 = self.oauth2
        held = (self.password, oauth2 and oauth2.client_secret, oauth2 and oauth2.refresh_token)
        return tuple(secret.get_secret_value() for secret in held if secret)


def _check_token_url(url: str) -> None:
    """Raises ValueError for a place to which no secret may be sent."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("token_url is no URL") from None
    if parts.username or parts.password or parts.fragment:
        raise ValueError("token_url must not hold credentials: secrets have settings of their own")
    if parts.scheme == "https" and host:
        return
    if parts.scheme != "http" or not _is_loopback(host):
        raise ValueError("token_url must begin with https:// and name a host (http:// on loopback only)")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
