"""What ``check`` finds about a mailbox: reached, logged in, its folders, and what its server can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prober.acts import Acts
from prober.aside import aside
from prober.clock import Clock
from prober.errors import Unreadable
from prober.findings import Examined, Finding, ok, unread, warning
from prober.model import Channel
from prober.observers.imap_connection import Lifeline
from prober.observers.imap_session import Session
from prober.observers.imap_settings import ImapSettings
from prober.observers.imap_tokens import Tokens
from prober.validation import validate_adapter

_CONNECTED_WITHIN = 3.0
_ANSWERED_WITHIN = 5.0
_SUBJECTS = {"login_refused": "credentials", "folder_missing": "folders", "tls": "TLS"}
_TOLD = ("IDLE", "UIDPLUS", "MOVE", "SPECIAL-USE", "X-GM-EXT-1")


async def examine(
    name: str, raw: Mapping[str, Any], channels: tuple[Channel, ...], clock: Clock, *, post: bool, acts: Acts
) -> Examined:
    """Log in once, look at the folders, log out. Raises ConfigurationError; the rest is in the findings.

    Nothing is posted: a mailbox is only read. IMAP tells no time of its own, so no clock is met.
    """
    settings = validate_adapter(ImapSettings, raw)
    quick = settings.model_copy(
        update={
            "connect_timeout": min(settings.connect_timeout, _CONNECTED_WITHIN),
            "read_timeout": min(settings.read_timeout, _ANSWERED_WITHIN),
        }
    )
    lifeline = Lifeline()
    tokens = Tokens(quick, quick.oauth2, clock, acts) if quick.oauth2 is not None else None
    try:
        found = await aside(lambda: _look(quick, lifeline, tokens), f"{name}-examination")
        return Examined(name, (*found, *_replaced(tokens)))
    finally:
        lifeline.cut()


def _look(settings: ImapSettings, lifeline: Lifeline, tokens: Tokens | None) -> tuple[Finding, ...]:
    findings: list[Finding] = []
    try:
        session = Session(settings, settings.folder, lifeline, tokens)
    except Unreadable as error:
        return tuple(_failed(error, settings))
    try:
        findings.append(ok("credentials", f"logged in to {settings.host}:{settings.used_port}"))
        findings.append(_junk(settings, session))
        findings.append(_capabilities(session.capabilities))
    except Unreadable as error:
        findings.append(unread("folders", error))
    finally:
        session.close()
    if settings.junk not in ("auto", "none"):
        findings[1] = _named_junk(settings, lifeline, tokens)
    return tuple(findings)


def _replaced(tokens: Tokens | None) -> Iterator[Finding]:
    """That this very examination has used up the configured refresh token."""
    if tokens is not None and tokens.refresh.trouble:
        sentence = f"the provider replaces the refresh token at each use, and {tokens.refresh.trouble}"
        mend = "name a writable refresh_token_file; should the next login be refused, let the owner consent again"
        yield warning("refresh token", sentence, mend)


def _failed(error: Unreadable, settings: ImapSettings) -> Iterator[Finding]:
    if error.reason == "folder_missing":
        yield ok("credentials", f"logged in to {settings.host}:{settings.used_port}")
    yield unread(_SUBJECTS.get(error.reason, "reachable"), error)


def _junk(settings: ImapSettings, session: Session) -> Finding:
    if settings.junk != "auto":
        return ok("folders", settings.folder)
    found = session.find_junk()
    if found is None:
        sentence = f"{settings.folder}; none is marked \\Junk: misplaced mail would count as lost"
        return warning("folders", sentence, "write junk: with the folder's name, or junk: none")
    return ok("folders", f"{settings.folder} and {found} (\\Junk)")


def _named_junk(settings: ImapSettings, lifeline: Lifeline, tokens: Tokens | None) -> Finding:
    try:
        Session(settings, settings.junk, lifeline, tokens).close()
    except Unreadable as error:
        return unread("folders", error)
    return ok("folders", f"{settings.folder} and {settings.junk}")


def _capabilities(offered: frozenset[str]) -> Finding:
    told = ", ".join(each for each in _TOLD if each in offered) or "none of note"
    if "IDLE" not in offered:
        sentence = f"the server pushes nothing (no IDLE): {told}"
        return warning("capabilities", sentence, "choose a short poll: arrivals are seen by reads alone")
    if "UIDPLUS" not in offered:
        sentence = f"no UIDPLUS, so single messages cannot be removed: {told}"
        return warning("capabilities", sentence, "let the server remove old mail by itself")
    return ok("capabilities", told)
