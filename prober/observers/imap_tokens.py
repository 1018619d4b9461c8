"""Access tokens for one account, shared by its connections' threads: fetched, renewed before their end, dropped when
refused."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any
from urllib.parse import SplitResult, quote_plus, urlencode, urlsplit

from prober import __version__
from prober.acts import Acts, place_of
from prober.clock import Clock
from prober.errors import Unreadable
from prober.grants import Grant, life_of
from prober.observers.imap_connection import Lifeline, connected, tls_context
from prober.observers.imap_errors import scrubbed, token_unreadable, without_secrets
from prober.observers.imap_refresh import RefreshToken
from prober.observers.imap_settings import ImapSettings, OAuth2Settings

_MOST_BYTES = 65_536


class Tokens:
    """The tokens of ``settings.oauth2``. All methods may be called in any thread; ``acts`` are told of each request."""

    def __init__(self, settings: ImapSettings, oauth2: OAuth2Settings, clock: Clock, acts: Acts) -> None:
        self._settings = settings
        self._oauth2 = oauth2
        self._clock = clock
        self._acts = acts
        self._lock = threading.Lock()
        self._grant: Grant | None = None
        self.refresh = RefreshToken(oauth2)

    def token(self, lifeline: Lifeline) -> tuple[str, bool]:
        """The token to use now, and whether it has just been fetched. Raises Unreadable.

        While a renewal fails the old token serves to its end.
        """
        with self._lock:
            if self._grant is not None and self._grant.is_fresh(self._clock.now()):
                return self._grant.token, False
            try:
                with self._acts.asking("token", place_of("POST", self._settings.token_url), self._oauth2.grant) as told:
                    self._grant = self._fetch(lifeline, told)
            except Unreadable:
                if self._grant is None or not self._grant.is_alive(self._clock.now()):
                    raise
                return self._grant.token, False
            return self._grant.token, True

    def reject(self, token: str) -> None:
        """The server did not take ``token``: the next one is fetched anew."""
        with self._lock:
            if self._grant is not None and self._grant.token == token:
                self._grant = None

    def _fetch(self, lifeline: Lifeline, told: list[str]) -> Grant:
        """A new token; what its endpoint did is put into ``told``, in words for the record. Raises Unreadable."""
        # As long as another process may take for the same, and for its turn before that.
        patience = 2 * (self._settings.connect_timeout + self._settings.read_timeout)
        with self.refresh.held(lifeline, patience):
            return self._asked(lifeline, told)

    def _asked(self, lifeline: Lifeline, told: list[str]) -> Grant:
        asked = self._clock.now()
        refresh_token = self.refresh.current() if self._oauth2.grant == "refresh_token" else ""
        body = self._form(refresh_token)
        hide = (refresh_token, *map(quote_plus, (*self._settings.secrets(), refresh_token)))
        try:
            status, answer = self._post(body, lifeline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise token_unreadable(error, self._settings, hide) from without_secrets(error)
        document = _document(answer)
        token = document.get("access_token")
        if status != 200 or not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise self._refused(status, document, hide)
        rotated = document.get("refresh_token")
        if self._oauth2.grant == "refresh_token" and isinstance(rotated, str) and rotated:
            told += self.refresh.replace(rotated)
        grant = Grant(token, asked, life_of(document, token, asked))
        told.insert(0, f"granted for {grant.life:.0f} s")
        return grant

    def _form(self, refresh_token: str) -> bytes:
        oauth2 = self._oauth2
        fields = {"grant_type": oauth2.grant, "client_id": oauth2.client_id}
        if oauth2.client_secret is not None:
            fields["client_secret"] = oauth2.client_secret.get_secret_value()
        if oauth2.grant == "refresh_token":
            fields["refresh_token"] = refresh_token
        if self._settings.scope:
            fields["scope"] = self._settings.scope
        return urlencode(fields).encode()

    def _post(self, body: bytes, lifeline: Lifeline) -> tuple[int, bytes]:
        url = urlsplit(self._settings.token_url)
        connection = _Connection(url, self._settings, self._oauth2.ca_file, lifeline)
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json",
                   "User-Agent": f"prober/{__version__}"}  # fmt: skip
        try:
            path = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
            connection.request("POST", path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read(_MOST_BYTES)
        finally:
            connection.close()
            lifeline.release()

    def _refused(self, status: int, document: dict[str, Any], hide: tuple[str, ...]) -> Unreadable:
        words = [str(document[name]) for name in ("error", "error_description") if document.get(name)]
        said = scrubbed(" ".join(": ".join(words).split()), (*self._settings.secrets(), *hide))[:300]
        place = f"the token endpoint {self._settings.token_url}"
        if status == 200:
            return Unreadable("protocol", f"{place} answered without a usable access_token; check token_url")
        if status >= 500 or status == 429:
            return Unreadable("unreachable", f"{place} answered {status}: {said}; it is asked again")
        mend = "check client_id, client_secret and scope"
        if self._oauth2.grant == "refresh_token":
            mend = "the refresh_token may have been revoked or have expired: let the account's owner consent again"
        return Unreadable("login_refused", f"{place} answered {status}: {said or 'no reason'}; {mend}")


class _Connection(http.client.HTTPConnection):
    """One exchange over a connection that can be cut."""

    def __init__(self, url: SplitResult, settings: ImapSettings, ca_file: str | None, lifeline: Lifeline) -> None:
        secure = url.scheme == "https"
        super().__init__(url.hostname or "", url.port or (443 if secure else 80))
        self._secure = secure
        self._settings = settings
        self._ca_file = ca_file
        self._lifeline = lifeline

    def connect(self) -> None:
        sock = connected(self.host, self.port, self._settings.connect_timeout, self._lifeline)
        try:
            sock.settimeout(self._settings.read_timeout)
            if self._secure:
                sock = tls_context(self._ca_file).wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise
        self.sock = sock


def _document(answer: bytes) -> dict[str, Any]:
    try:
        document = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
