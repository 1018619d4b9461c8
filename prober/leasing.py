"""The leases of one replica: which observers are its own. Nobody leads; who is silent for too long is replaced."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from prober.clock import Instant
from prober.errors import LedgerError
from prober.ledger.leases import Lease, Replica, keep_leases, leases_of, let_go
from prober.processes import alive, can_tell, of_this_boot
from prober.stages import Flow

log = structlog.get_logger()

EVERY = 2.0
"""Seconds between two beats of a holder, and between two looks of whoever would take over."""

STILL = 3
"""Looks after which a lease whose beat has not changed is free. They are counted, and no clocks compared: neither do
two machines' agree, nor has anybody beaten while the machine of both was suspended."""


class _NoAnswer(LedgerError):
    """The ledger neither accepts a beat nor refuses it."""


@dataclass(slots=True)
class Leasing:
    """What one process holds: ``held`` are epochs by observer. ``living`` are observers whose other holder has been
    seen to beat."""

    flow: Flow
    held: dict[str, int] = field(default_factory=dict)
    living: set[str] = field(default_factory=set)
    _me: Replica = field(init=False)
    _seen: dict[str, tuple[Lease, int]] = field(default_factory=dict)
    _beaten: Instant | None = None

    def __post_init__(self) -> None:
        self._me = Replica(self.flow.taken_by, socket.gethostname())

    async def look(self) -> None:
        """Beat, and take what is free. Raises LedgerError.

        Who could not beat for as long as others wait, or does not hear whether it has, has to take it that they have
        taken over.
        """
        flow = self.flow
        try:
            if flow.ledger.shared and self.held and self._beaten is not None:
                left = STILL * EVERY - flow.clock.now().since(self._beaten)
                await self._look_for(max(EVERY, left))
            else:
                await self._look()
        except LedgerError as error:
            silent = self._beaten is not None and flow.clock.now().since(self._beaten) >= STILL * EVERY
            if flow.ledger.shared and (silent or isinstance(error, _NoAnswer)) and self.held:
                log.warning("Leases cannot be kept: others may have taken the observers over.", action="lease_doubt",
                            observers=sorted(self.held))  # fmt: skip
                self.held = {}
            raise

    async def _look(self) -> None:
        flow, names = self.flow, {watch.observer.name for watch in self.flow.watches}
        wanted: dict[str, Lease | None] = {}
        if names - self.held.keys():
            found = await flow.ledger.read(leases_of, flow.location)
            others = {name: found.get(name) for name in names - self.held.keys()}
            wanted = {name: lease for name, lease in others.items() if self._is_free(name, lease)}
        if self.held or wanted:
            held = await flow.ledger.write(keep_leases, flow.location, self._me, self.held, wanted)
            self._beaten = flow.clock.now()
            self._changed(held, wanted)

    async def _look_for(self, seconds: float) -> None:
        """The same, for so many seconds at the most: what the ledger still does of it afterwards is as if another
        process had done it."""
        looking = asyncio.ensure_future(self._look())
        ending = asyncio.ensure_future(self.flow.clock.sleep(seconds))
        try:
            await asyncio.wait({looking, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not looking.done():
                raise _NoAnswer(f"ledger: no answer to a beat for {seconds:g} s")
            looking.result()
        finally:
            looking.cancel()
            ending.cancel()
            await asyncio.gather(looking, ending, return_exceptions=True)

    def lost(self, name: str, epoch: int) -> None:
        """A write was refused: another replica has taken the observer over."""
        if self.held.get(name) == epoch:
            del self.held[name]
            log.warning("Another replica has taken an observer over.", action="lease_lost", observer=name)

    async def let_go(self) -> None:
        """Let others take over at once."""
        held, self.held = self.held, {}
        try:
            await self.flow.ledger.write(let_go, self.flow.location, held)
        except LedgerError as error:
            log.warning("The observers could not be let go; others wait for them.", action="lease_kept", why=str(error))

    def _is_free(self, name: str, lease: Lease | None) -> bool:
        if lease is None or lease.holder in {"", self._me.name} or self._has_ended(lease.holder):
            self.living.discard(name)
            return True
        before, looks = self._seen.get(name, (None, 0))
        looks = looks + 1 if before == lease else 0
        self._seen[name] = lease, looks
        if before is not None and before != lease:
            self.living.add(name)
        elif looks >= STILL:
            self.living.discard(name)
        return looks >= STILL

    def _has_ended(self, holder: str) -> bool:
        """Whether it is certain that the process is gone: nothing need be waited for then."""
        if can_tell(holder):
            return not alive(holder)
        return not self.flow.ledger.shared and not of_this_boot(holder)

    def _changed(self, held: Mapping[str, int], wanted: Mapping[str, Lease | None]) -> None:
        for name, epoch in tuple(self.held.items()):
            if name not in held:
                self.lost(name, epoch)
        for name in sorted(held.keys() - self.held.keys()):
            before = wanted.get(name)
            log.info("An observer is this replica's.", action="lease_taken", observer=name, epoch=held[name],
                     before=before.host if before else "")  # fmt: skip
        self.held = dict(held)
