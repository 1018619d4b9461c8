"""What goes wrong in the prober itself, counted until it is on record."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping

from prober.errors import LedgerError
from prober.ledger.totals import Rise, raise_totals
from prober.stages import Flow


class InternalErrors(Counter[tuple[str, str]]):
    """Errors of one process by component and reason."""

    def __init__(self) -> None:
        super().__init__()
        self._on_record: Counter[tuple[str, str]] = Counter()

    @property
    def unrecorded(self) -> Mapping[tuple[str, str], int]:
        """Those that are not in the totals yet."""
        return self - self._on_record

    async def record(self, flow: Flow) -> None:
        """Add what is new to the totals; while they cannot be written it stays counted here."""
        new = self.unrecorded
        if not new:
            return
        rise = Rise()
        for (component, reason), count in new.items():
            rise.count("internal_errors_total", {"component": component, "reason": reason}, count)
        with contextlib.suppress(LedgerError):
            await flow.ledger.write(raise_totals, flow.location, flow.clock.now().wall, rise)
            self._on_record += Counter(new)
