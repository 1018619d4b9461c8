"""What the target is asked beside publishing: what it claims of a publication, and which dependencies are up."""

from __future__ import annotations

import structlog

from prober.errors import TargetError
from prober.ledger import publishing
from prober.ledger.dependencies import ASK_EVERY, claim_health, record_health
from prober.stages import Flow

log = structlog.get_logger()

_LEAST_WAIT = 1.0


async def ask_claims(flow: Flow, probe: str) -> None:
    """Ask the target what it says about a publication, once it was seen and at the horizon: waypoints, never proof.

    That it says nothing is no event. Raises LedgerError.
    """
    publication = await flow.ledger.read(publishing.publication_id_of, probe)
    if not publication:
        return
    try:
        claimed = await flow.target.claims(publication)
    except TargetError as error:
        log.info("The target says nothing about a publication.", action="no_claims", why=error.title)
        return
    if claimed:
        await flow.ledger.write(publishing.record_claims, probe, claimed)


async def ask_health(flow: Flow) -> float:
    """Ask the target for its dependencies' states, unless somebody asked within the last minute, and put them on
    record (unknown, when it says nothing); returns the seconds until it may be asked again. Raises LedgerError."""
    wait = await flow.ledger.write(claim_health, flow.location, flow.clock.now().wall)
    if wait > 0:
        return wait
    states = None
    try:
        states = await flow.target.health()
    except TargetError as error:
        log.info("The target says nothing about its health.", action="no_health", why=error.title)
    finally:
        await flow.ledger.write(record_health, flow.location, flow.clock.now().wall, states)
    return ASK_EVERY


async def watch_health(flow: Flow) -> None:
    """Ask for ever, as often as all processes of this location together may. Raises LedgerError."""
    while True:
        await flow.clock.sleep(max(_LEAST_WAIT, await ask_health(flow)))
