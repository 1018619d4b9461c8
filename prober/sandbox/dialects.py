"""The two ways in which a publishing API answers: as it is documented, and as a running build was seen to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aiohttp import web

from prober.errors import ConfigurationError
from prober.nearest import did_you_mean

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one sort of deployment answers. ``keep_alive`` is the seconds after which an idle connection is closed."""

    name: str
    prefix: str
    health: str
    created: int
    deleted: int
    keep_alive: float
    authenticates: bool
    limits: bool
    zone: str
    content_ids_required: bool
    redirects: bool

    def time(self, wall: float | None) -> str | None:
        """A time in an answer."""
        if wall is None:
            return None
        return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + self.zone

    def success(self, data: object, status: int, wall: float) -> web.Response:
        meta = {"timestamp": self.time(wall), "request_id": str(uuid4())}
        return answer({"data": data, "meta": meta, "errors": []}, status)

    def problem(self, status: int, title: str, detail: str, path: str, wall: float) -> web.Response:
        """One error in this dialect's shape."""
        error: Json = {"type": "about:blank", "title": title, "status": status, "detail": detail, "instance": path}
        if self is SEEN:
            return answer({**error, "traceId": uuid4().hex}, status, "application/problem+json")
        meta = {"timestamp": self.time(wall), "request_id": str(uuid4())}
        return answer({"data": None, "meta": meta, "errors": [error]}, status)

    def invalid(self, errors: Sequence[Mapping[str, Any]], path: str, wall: float) -> web.Response:
        """A 422 for what does not validate; ``errors`` have ``loc``, ``msg`` and ``type``."""
        if self is SEEN:
            return answer({"detail": [dict(error) for error in errors]}, 422)
        said = "; ".join(f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}" for error in errors)
        return self.problem(422, "Validation error", said, path, wall)


DOCUMENTED = Dialect(
    name="documented",
    prefix="/v1/publishing",
    health="/v1/publishing/health",
    created=201,
    deleted=204,
    keep_alive=75.0,
    authenticates=True,
    limits=True,
    zone="Z",
    content_ids_required=True,
    redirects=False,
)
SEEN = Dialect(
    name="seen",
    prefix="/api/v1",
    health="/health",
    created=200,
    deleted=200,
    keep_alive=5.0,
    authenticates=False,
    limits=False,
    zone="",
    content_ids_required=False,
    redirects=True,
)
DIALECTS = {dialect.name: dialect for dialect in (DOCUMENTED, SEEN)}


def dialect_named(name: str) -> Dialect:
    """Raises ConfigurationError for a name that is not known."""
    if name not in DIALECTS:
        raise ConfigurationError(f"there is no dialect {name!r}", did_you_mean(name, DIALECTS), field="dialect")
    return DIALECTS[name]


def answer(body: object, status: int = 200, content_type: str = "application/json") -> web.Response:
    return web.Response(body=json.dumps(body).encode(), status=status, content_type=content_type)
