"""An OAuth 2 token endpoint: client credentials as at Microsoft 365, refresh tokens as at Gmail, and introspection."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from prober.clock import Clock, Instant

HOST = "127.0.0.1"


@dataclass(slots=True)
class _Issued:
    """An access token: whose mailbox it opens, and until when."""

    user: str
    ends: Instant


@dataclass
class TokenEndpoint:
    """Listens between ``start`` and ``stop``. ``life`` is how many seconds a token serves.

    ``apps`` are, by client id, the secret and the mailbox that a token of it opens; ``refresh_tokens`` the mailbox of
    each. With ``rotates`` a refresh token serves once, and a new one comes with the answer. ``status`` makes every
    request fail. ``grants`` counts the tokens that were issued, by grant.
    """

    clock: Clock
    apps: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)
    refresh_tokens: dict[str, str] = field(default_factory=dict, repr=False)
    life: float = 3600.0
    rotates: bool = False
    status: int | None = None
    grants: list[str] = field(default_factory=list)
    port: int = 0
    _issued: dict[str, _Issued] = field(default_factory=dict, repr=False)
    _runner: web.AppRunner | None = field(default=None, repr=False)

    @property
    def token_url(self) -> str:
        return f"http://{HOST}:{self.port}/token"

    @property
    def introspection_url(self) -> str:
        return f"http://{HOST}:{self.port}/introspect"

    async def start(self, port: int = 0) -> None:
        """Listen on a loopback port, a free one unless told otherwise."""
        app = web.Application()
        app.router.add_post("/token", self._token)
        app.router.add_post("/introspect", self._introspect)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, port, reuse_address=True)
        await site.start()
        self.port = site.port

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def revoke(self) -> None:
        """Let no access token serve any more that was issued until now."""
        self._issued.clear()

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        if self.status is not None:
            return web.json_response({"error": "temporarily_unavailable"}, status=self.status)
        secret, user = self.apps.get(form.get("client_id", ""), ("", ""))
        if not secret or not hmac.compare_digest(secret.encode(), form.get("client_secret", "").encode()):
            return _refused(401, "invalid_client", "the client is not known, or its secret is wrong")
        grant = form.get("grant_type", "")
        if grant == "client_credentials":
            return self._grant(grant, user, {})
        if grant != "refresh_token":
            return _refused(400, "unsupported_grant_type", "")
        return self._refresh(form.get("refresh_token", ""))

    def _refresh(self, refresh_token: str) -> web.Response:
        user = self.refresh_tokens.get(refresh_token)
        if user is None:
            return _refused(400, "invalid_grant", f"Token has been expired or revoked: {refresh_token}")
        if not self.rotates:
            return self._grant("refresh_token", user, {})
        del self.refresh_tokens[refresh_token]
        fresh = secrets.token_urlsafe(24)
        self.refresh_tokens[fresh] = user
        return self._grant("refresh_token", user, {"refresh_token": fresh})

    def _grant(self, grant: str, user: str, more: Mapping[str, str]) -> web.Response:
        token = secrets.token_urlsafe(32)
        self._issued[token] = _Issued(user, self.clock.now().plus(self.life))
        self.grants.append(grant)
        told = {"access_token": token, "token_type": "Bearer", "expires_in": int(self.life), **more}
        return web.json_response(told, headers={"Cache-Control": "no-store"})

    async def _introspect(self, request: web.Request) -> web.Response:
        """Whether a token serves, and whose it is (RFC 7662)."""
        issued = self._issued.get(str((await request.post()).get("token", "")))
        if issued is None or self.clock.now().since(issued.ends) >= 0:
            return web.json_response({"active": False})
        return web.json_response({"active": True, "username": issued.user, "scope": "imap"})


def _refused(status: int, error: str, description: str) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=status)
