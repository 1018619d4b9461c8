"""SES's account-wide suppression list for moto, which has none: the addresses to which no mail is sent any more."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from moto.ses.exceptions import NotFoundException
from moto.sesv2 import urls
from moto.sesv2.responses import SESV2Response

_PATH: Final = "{0}/v2/email/suppression/addresses"


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Why and since which wall time an address is on the list."""

    reason: str
    since: float


_listed: dict[str, Suppressed] = {}
"""By address in lower case: moto's own state is one for the whole process, too."""


def suppress(address: str, since: float, reason: str = "BOUNCE") -> None:
    """Put an address on the list."""
    _listed[address.lower()] = Suppressed(reason, since)


def is_suppressed(address: str) -> bool:
    """Whether mail to an address is held back."""
    return address.lower() in _listed


def forgive(domain: str) -> None:
    """Take a domain's addresses off the list."""
    for address in [address for address in _listed if address.endswith(f"@{domain.lower()}")]:
        del _listed[address]


class SuppressionList(SESV2Response):
    """The requests about the list; the methods' names are AWS's."""

    def get_suppressed_destination(self) -> str:
        address = self._address()
        found = _listed.get(address)
        if found is None:
            raise NotFoundException(f"Email address {address} does not exist on your suppression list.")
        return json.dumps({"SuppressedDestination": _form(address, found)})

    def delete_suppressed_destination(self) -> str:
        if _listed.pop(self._address(), None) is None:
            raise NotFoundException("Email address does not exist on your suppression list.")
        return "{}"

    def put_suppressed_destination(self) -> str:
        asked: dict[str, Any] = json.loads(self.body)
        suppress(str(asked["EmailAddress"]), time.time(), str(asked["Reason"]))
        return "{}"

    def list_suppressed_destinations(self) -> str:
        return json.dumps({"SuppressedDestinationSummaries": [_form(*one) for one in sorted(_listed.items())]})

    def _address(self) -> str:
        return unquote(str(self._get_param("EmailAddress"))).lower()


def _form(address: str, found: Suppressed) -> dict[str, Any]:
    return {"EmailAddress": address, "Reason": found.reason, "LastUpdateTime": found.since}


def install() -> None:
    """Let moto's servers that are started from now on answer for the list."""
    ours = {_PATH + end: SuppressionList.dispatch for end in ("$", "/(?P<EmailAddress>[^/]+)$")}
    # The first that fits is taken, and moto's own fit everything.
    known = {path: act for path, act in urls.url_paths.items() if path not in ours}
    urls.url_paths.clear()
    urls.url_paths.update({**ours, **known})
