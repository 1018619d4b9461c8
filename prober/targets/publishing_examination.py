"""What ``check`` finds about the Publishing Module: is it there, does it know us, does it speak as it should?"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from prober.clock import Clock
from prober.errors import OwnFault, TargetError, Unreachable
from prober.findings import ClockReading, Examined, Finding, clock_of_date, ok, unknown, warning, wrong
from prober.targets.http_client import Reply
from prober.targets.problems import parse_json, phrase, read_problem
from prober.targets.publishing_inventory import Ask

_TOKEN = "renew the target's token (token, token_file or oauth2)"  # noqa: S105 - a mend
_BACK = "mend the target, or wait until it is back"
_URL = "check target.url, with its prefix such as /api/v1"

Health = Callable[[], Awaitable[Mapping[str, bool | None]]]


@dataclass(frozen=True, slots=True)
class _Asked:
    """One call's answer, or why there is none."""

    reply: Reply | None
    error: TargetError | None
    clocks: tuple[ClockReading, ...] = ()


async def examine_target(ask: Ask, health: Health, clock: Clock) -> Examined:
    """Liveness first; what is not reached is not asked further. Nothing is created."""
    alive = await _asked(ask, "/", clock)
    reached = _reached(alive)
    if alive.reply is None:
        return Examined("target", (reached,))
    listed = await _asked(ask, "/publications?limit=1", clock)
    stranger = await _asked(ask, f"/publications/{uuid4()}", clock)
    findings = [reached, _credentials(listed)]
    if findings[-1].state == "ok":
        findings += [_contract(listed), _error_shape(stranger)]
    findings.append(await _health(health))
    return Examined("target", tuple(findings), (*alive.clocks, *listed.clocks, *stranger.clocks))


async def _asked(ask: Ask, path: str, clock: Clock) -> _Asked:
    try:
        reply = await ask("GET", path)
    except TargetError as error:
        return _Asked(None, error)
    date = reply.headers.get("date")
    return _Asked(reply, None, clock_of_date("target", date, reply.requested_at, reply.answered_at))


def _reached(asked: _Asked) -> Finding:
    error = asked.error
    if error is None:
        assert asked.reply is not None  # noqa: S101 - one of the two is there
        if asked.reply.status >= 500:
            sentence = f"it answers {asked.reply.status} {phrase(asked.reply.status)} to GET /"
            return wrong("reachable", sentence, _BACK)
        seconds = asked.reply.answered_at.since(asked.reply.requested_at)
        return ok("reachable", f"it answers within {seconds:.3f} s")
    if isinstance(error, OwnFault):
        if "token" in error.title:
            return wrong("credentials", str(error), _TOKEN)
        return unknown("reachable", str(error), "check this machine's DNS, route and proxy, and target.url")
    if isinstance(error, Unreachable):
        return wrong("reachable", str(error), "check target.url, TLS settings, firewall, and that the target runs")
    return wrong("reachable", str(error), "check that the target runs, or wait until it is back")


def _credentials(asked: _Asked) -> Finding:
    if asked.error is not None:
        if isinstance(asked.error, OwnFault):
            return wrong("credentials", str(asked.error), _TOKEN)
        return unknown("credentials", f"GET /publications: {asked.error}", "run this again when the target is well")
    assert asked.reply is not None  # noqa: S101 - one of the two is there
    reply = asked.reply
    if reply.status in (401, 403):
        return wrong("credentials", _said(reply), _TOKEN)
    return ok("credentials", "accepted")


def _contract(asked: _Asked) -> Finding:
    reply = asked.reply
    assert reply is not None  # noqa: S101 - the credentials were fine
    if reply.status >= 500:
        return wrong("contract", f"GET /publications: {_said(reply)}", _BACK)
    document = parse_json(reply.body)
    data = document.get("data") if isinstance(document, dict) else None
    if reply.status >= 300 or not isinstance(data, dict):
        told = _said(reply) if reply.status >= 300 else "an answer without data"
        return wrong("contract", f"GET /publications: {told}", _URL)
    return ok("contract", "it lists publications in the module's envelope")


def _error_shape(asked: _Asked) -> Finding:
    """An id that nobody has: whether the target's no can be read."""
    if asked.reply is None:
        return unknown("errors", f"an unknown publication: {asked.error}", "run this again when the target is well")
    reply = asked.reply
    if reply.status >= 500:
        return unknown("errors", f"an unknown publication: {_said(reply)}", _BACK)
    if reply.status != 404:
        return wrong("errors", f"it answers {reply.status} where a publication is unknown, not 404", _URL)
    if not isinstance(parse_json(reply.body), dict):
        return warning("errors", "its errors are no JSON: reasons will be quoted raw", "let the target say why in JSON")
    return ok("errors", f"it says no in a form that can be read: {_said(reply)}")


async def _health(health: Health) -> Finding:
    """The target's own word about what it depends on: worth a look, no proof."""
    try:
        states = await health()
    except TargetError as error:
        if error.status in (404, 405):
            return unknown("health", "it offers no /health")
        return warning("health", f"/health: {error}", "look into the target")
    down = sorted(name for name, up in states.items() if up is False)
    if down:
        return warning("health", f"it says that {', '.join(down)} is down", "look into the target's dependencies")
    return ok("health", f"it says that {', '.join(sorted(states)) or 'all'} is up")


def _said(reply: Reply) -> str:
    problem = read_problem(reply.status, reply.headers, reply.body, reply.hide)
    return f"{reply.status} {problem.title}" + (f": {problem.detail}" if problem.detail else "")
