"""What ``check`` finds about a described API: all that can be asked without publishing is its health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from prober.errors import OwnFault, TargetError, Unreachable
from prober.findings import Examined, Finding, ok, unknown, warning, wrong

Health = Callable[[], Awaitable[Mapping[str, bool | None]]]


async def examine_described(health: Health | None) -> Examined:
    """Ask for health once; None: none is described. Nothing is published. Raises nothing."""
    if health is None:
        return Examined("target", (unknown("reachable", "only publishing would tell", "describe target.health"),))
    try:
        states = await health()
    except TargetError as error:
        return Examined("target", (_unwell(error),))
    reached = ok("reachable", "it answers its health call")
    down = sorted(name for name, up in states.items() if up is False)
    if down:
        told = f"it says that {', '.join(down)} is down"
        return Examined("target", (reached, warning("health", told, "look into the target's dependencies")))
    untold = sorted(name for name, up in states.items() if up is None)
    if untold:
        mend = "name the words for it in target.health.up and target.health.down"
        return Examined("target", (reached, unknown("health", f"nothing is known of {', '.join(untold)}", mend)))
    return Examined("target", (reached, ok("health", f"it says that {', '.join(sorted(states))} is up")))


def _unwell(error: TargetError) -> Finding:
    if isinstance(error, OwnFault):
        mend = "check target.url, the token, and this machine's DNS, route and proxy"
        return unknown("reachable", str(error), mend)
    if isinstance(error, Unreachable):
        return wrong("reachable", str(error), "check target.url, TLS settings, firewall, and that the target runs")
    if error.status in (401, 403):
        return wrong("credentials", str(error), "renew the target's token (token, token_file or oauth2)")
    return wrong("health", str(error), "check target.health, or wait until the target is well")
