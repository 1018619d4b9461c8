"""Every error of the prober. A message names the thing and the mend.

ProberError
├── ConfigurationError          exit 2: a file, an option or an environment variable is wrong
├── LedgerError                 the durable record cannot be used
│   ├── LedgerTooNew            written by a newer version
│   ├── LedgerReadOnly          the file or its folder cannot be written
│   ├── LedgerFull              no space is left
│   ├── LedgerBusy              another process holds the lock for too long
│   └── LedgerOnNetwork         lies on a network file system
├── TargetError                 one step that did not end as accepted; carries a PublishResult
│   ├── Refused                 4xx: the target said no
│   ├── Unanswered              5xx, reset, time-out, or a 2xx that says failed: it may exist all the same
│   ├── Unreachable             connection refused or TLS failure: nothing left us
│   └── OwnFault                our DNS, our route, our expired token: never the target's
├── Unreadable                  an observer cannot see now; carries a reason
└── SandboxError                the embedded world could not be started or has ended
"""

from __future__ import annotations

from dataclasses import dataclass

from prober.clock import Instant
from prober.model import PublishResult


class ProberError(Exception):
    """Something that a user can read, understand and mend."""


@dataclass
class ConfigurationError(ProberError):
    """A wrong value: where it stands (file, line, field), what is wrong, and the mend."""

    problem: str
    mend: str = ""
    file: str = ""
    line: int | None = None
    field: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file
        parts = [part for part in (place, self.field, self.problem) if part]
        text = ": ".join(parts)
        return f"{text} ({self.mend})" if self.mend else text


class LedgerError(ProberError):
    """The ledger cannot be used."""


class LedgerTooNew(LedgerError):
    """The ledger was written by a newer version of the prober."""


class LedgerReadOnly(LedgerError):
    """The ledger cannot be written."""


class LedgerFull(LedgerError):
    """No space is left for the ledger."""


class LedgerBusy(LedgerError):
    """Another process has held the ledger's lock for too long."""


class LedgerOnNetwork(LedgerError):
    """The ledger lies on a network file system, where its locks cannot be trusted."""


class TargetError(ProberError):
    """A step of a publication that did not end as accepted.

    ``requested_at`` is the instant just before the first byte, None when nothing left us; ``status`` the HTTP
    status, None without an answer.
    """

    result: PublishResult

    def __init__(
        self,
        title: str,
        detail: str = "",
        *,
        status: int | None = None,
        correlation_id: str = "",
        requested_at: Instant | None = None,
        answered_at: Instant | None = None,
    ) -> None:
        super().__init__(f"{title}: {detail}" if detail else title)
        self.title = title
        self.detail = detail
        self.status = status
        self.correlation_id = correlation_id
        self.requested_at = requested_at
        self.answered_at = answered_at


class Refused(TargetError):
    """The target said no (4xx)."""

    result = PublishResult.REFUSED


class Unanswered(TargetError):
    """No usable answer (5xx, reset, time-out, a 2xx that says failed): the publication may exist all the same."""

    result = PublishResult.ERROR

    def __init__(
        self,
        title: str,
        detail: str = "",
        *,
        timeout: bool = False,
        status: int | None = None,
        correlation_id: str = "",
        requested_at: Instant | None = None,
        answered_at: Instant | None = None,
    ) -> None:
        super().__init__(
            title,
            detail,
            status=status,
            correlation_id=correlation_id,
            requested_at=requested_at,
            answered_at=answered_at,
        )
        self.result = PublishResult.TIMEOUT if timeout else PublishResult.ERROR


class Unreachable(TargetError):
    """Connection refused or TLS failure: nothing left us."""

    result = PublishResult.UNREACHABLE


class OwnFault(TargetError):
    """Our own DNS, route or token: void, never the target's fault."""

    result = PublishResult.OWN_FAULT


class Unreadable(ProberError):
    """An observer cannot see now. ``reason`` is a stable word, ``detail`` a sentence with the mend."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class SandboxError(ProberError):
    """The embedded world could not be started or has ended."""
