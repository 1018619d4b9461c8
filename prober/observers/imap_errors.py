"""The one place where foreign errors become Unreadable, with a reason and a mend, and without a secret."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from imapclient.exceptions import IMAPClientAbortError, IMAPClientError, LoginError

from prober.errors import Unreadable
from prober.observers.imap_settings import ImapSettings

_WORDS_OF_A_LOST_LINE = ("EOF", "socket error", "BYE", "UNAVAILABLE", "unterminated line")
_WORDS_OF_A_CROWD = ("Maximum number of connections", "Too many simultaneous connections", "too many connections")

_TRUST_ANY = " (verify: false trusts any)"

_CERTIFICATE: dict[int, str] = {
    9: "it is not valid yet; check this machine's clock and the certificate",
    10: "it has expired; renew the server's certificate, or check this machine's clock",
    18: "it is self-signed; name it in ca_file to trust it",
    19: "its authority is not known; name the authority's certificate in ca_file",
    20: "its authority is not known; name the authority's certificate in ca_file",
    21: "its authority is not known; name the authority's certificate in ca_file",
    62: "it is for another host name; use in host the name that the certificate has",
    64: "it is for another address; use in host the name that the certificate has",
}
"""What a certificate lacks, by OpenSSL's number (openssl-verification-options(1), x509_vfy.h), and the mend."""


@contextmanager
def translated(settings: ImapSettings, doing: str, hide: Iterable[str] = ()) -> Iterator[None]:
    """Turn whatever imapclient, imaplib, ssl, http.client and sockets raise into Unreadable."""
    try:
        yield
    except _FOREIGN as error:
        raise unreadable(error, settings, doing, hide) from without_secrets(error)


def unreadable(error: Exception, settings: ImapSettings, doing: str, hide: Iterable[str] = ()) -> Unreadable:
    """The error with its reason: unreachable, login_refused, tls, folder_missing, protocol or timeout."""
    place = f"{settings.host}:{settings.used_port}"
    reason, mend = _reason(error, settings, doing)
    return _told(reason, f"cannot {doing} {place}", _said(error, (*settings.secrets(), *hide)), mend)


def token_unreadable(error: Exception, settings: ImapSettings, hide: Iterable[str] = ()) -> Unreadable:
    """The same for the token endpoint."""
    if isinstance(error, http.client.HTTPException):
        reason, mend = "protocol", "the token endpoint does not speak HTTP; check token_url"
    else:
        reason, mend = _reason(error, settings, "connect to")
        # Nothing switches the verification off where secrets are sent to.
        told = mend.removesuffix(_TRUST_ANY).replace("ca_file", "oauth2.ca_file")
        mend = told if reason == "tls" else "check token_url, and that its server runs and can be reached"
    said = _said(error, (*settings.secrets(), *hide))
    return _told(reason, f"cannot get an access token from {settings.token_url}", said, mend)


def _told(reason: str, what: str, said: str, mend: str) -> Unreadable:
    return Unreadable(reason, f"{what}: {said}; {mend}" if said else f"{what}; {mend}")


def _reason(error: Exception, settings: ImapSettings, doing: str) -> tuple[str, str]:
    text = str(error)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)) and not doing.startswith("connect"):
        return "unreachable", "the connection was cut"
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError)):
        return "tls", "check ca_file"
    if isinstance(error, ssl.SSLCertVerificationError):
        lacks = _CERTIFICATE.get(getattr(error, "verify_code", 0), "check ca_file and the server's certificate")
        return "tls", f"the server's certificate is not trusted: {lacks}{_TRUST_ANY}"
    if isinstance(error, ssl.SSLError):
        return "tls", "check tls, port, ca_file and the server's certificate"
    if isinstance(error, TimeoutError) or "timed out" in text:
        return "timeout", "the server does not answer in time; check host, port and firewall"
    if isinstance(error, socket.gaierror):
        return "unreachable", "the name cannot be resolved; check host and DNS"
    return _reason_by_words(error, settings, doing)


def _reason_by_words(error: Exception, settings: ImapSettings, doing: str) -> tuple[str, str]:
    text = str(error)
    if any(words in text for words in _WORDS_OF_A_CROWD):
        return "unreachable", "the account has too many connections; end other clients, or let the server allow more"
    if isinstance(error, OSError) or any(word in text for word in _WORDS_OF_A_LOST_LINE):
        return "unreachable", "check that the server runs and that host and port are right"
    if "STARTTLS" in text or "TLS not supported" in text:
        return "tls", "the server offers no STARTTLS; check tls and port"
    if isinstance(error, LoginError):
        return "login_refused", _mend_of_login(text, settings)
    lost = isinstance(error, IMAPClientAbortError)
    if doing.startswith("open the folder") and isinstance(error, IMAPClientError) and not lost:
        return "folder_missing", "check the folder's name and the account's rights"
    return "protocol", "the server's answer cannot be understood"


def _mend_of_login(text: str, settings: ImapSettings) -> str:
    if "PRIVACYREQUIRED" in text or "LOGINDISABLED" in text:
        return "the server takes passwords under TLS only; write tls: tls or tls: starttls"
    if settings.provider.mend:
        return settings.provider.mend
    return "check username and password" if settings.oauth2 is None else "check username, scope and the app's rights"


_FOREIGN = (IMAPClientError, OSError, EOFError, ValueError, LookupError, AssertionError, TypeError)

_BYTES = re.compile(r"""\bb(['"])(.*?)\1""")
"""The server's words as imaplib shows them: ``b'[AUTHENTICATIONFAILED] no'``."""


def _said(error: Exception, hide: Iterable[str]) -> str:
    """What the error says, shortened, without our secrets should the server repeat them."""
    if isinstance(error, UnicodeError):
        return "a text that IMAP cannot carry"
    return scrubbed(_BYTES.sub(r"\2", " ".join(str(error).split())), hide)[:300]


def scrubbed(text: str, hide: Iterable[str]) -> str:
    """A text without these secrets, the longest first."""
    for secret in sorted(filter(None, hide), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def without_secrets(error: Exception) -> Exception | None:
    """The cause to chain: none where it would show an object that may hold a secret."""
    return None if isinstance(error, (UnicodeError, LoginError)) else error
