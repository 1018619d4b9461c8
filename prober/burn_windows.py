"""The windows over which an error budget's burn is looked at, as data.

Source: The Site Reliability Workbook (Google, O'Reilly 2018), chapter 5 "Alerting on SLOs", table 5-8 and the code
beside it (sre.google/workbook/alerting-on-slos). The fourth pair, a day and two hours, stands in that code, not in
the table; so do Sloth's windows (slok/sloth, internal/alert/windows/google-30d.yaml).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

HOUR = 3600.0
DAY = 24 * HOUR


class Severity(StrEnum):
    """What a burn calls for: somebody now, or somebody in the next days."""

    PAGE = "page"
    TICKET = "ticket"


@dataclass(frozen=True, slots=True)
class BurnWindow:
    """Both windows (seconds) must burn; the short one lets the alarm end soon after the trouble does.

    ``budget`` is the share of the whole period's error budget that the long window may spend.
    """

    severity: Severity
    long: float
    short: float
    budget: float

    def factor(self, period: float) -> float:
        """The burn rate at which this share of a period's budget is spent within the long window."""
        return self.budget * period / self.long


BURN_WINDOWS = (
    BurnWindow(Severity.PAGE, 1 * HOUR, HOUR / 12, 0.02),  # 14.4 over 30 days
    BurnWindow(Severity.PAGE, 6 * HOUR, HOUR / 2, 0.05),  # 6
    BurnWindow(Severity.TICKET, 1 * DAY, 2 * HOUR, 0.10),  # 3
    BurnWindow(Severity.TICKET, 3 * DAY, 6 * HOUR, 0.10),  # 1
)
