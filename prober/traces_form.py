"""The ``traces`` part of ``prober.yaml``, and what OpenTelemetry's environment says instead: where traces go."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from prober.errors import ConfigurationError
from prober.references import has_reference
from prober.validation import Form, Seconds, validate_adapter
from prober.yaml_source import Located

PATH = "/v1/traces"
"""Where a collector takes traces (OTLP specification, OTLP/HTTP Request)."""

ENDPOINT, TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL, TRACES_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
OURS = "http/protobuf"

_MEND = "write it as http://collector.example:4318"


def _collector(url: str) -> str:
    if has_reference(url):
        return url
    if problem := _problem(url):
        raise ValueError(f"{problem}: {_MEND}")
    return url


def _problem(url: str) -> str:
    """What is wrong with a collector's URL, '' if nothing is. It is told in log lines, so it may hold no secret."""
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in {"http", "https"} or not host:
        return "must begin with http:// or https:// and name a host"
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        return "must hold neither credentials nor a query (secrets belong into headers)"
    return ""


class TracesForm(Form):
    """The collector that takes traces by OTLP/HTTP (``/v1/traces`` is added), the headers that it wants, and the
    time in which it must answer."""

    endpoint: Annotated[str, AfterValidator(_collector)]
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    timeout: Seconds = 10.0


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """What the form, or the environment, stands for: the whole URL, ``timeout`` in seconds (None: the environment's).

    What the environment says of headers, certificates and compression holds besides.
    """

    url: str
    headers: Mapping[str, SecretStr] = field(default_factory=dict, repr=False)
    timeout: float | None = None


def traces_of(raw: Mapping[str, Any] | None, environ: Mapping[str, str] | None = None) -> TraceSettings | None:
    """Where traces go, None for nowhere; the configuration's word comes before the environment's.

    Raises ConfigurationError.
    """
    environ = os.environ if environ is None else environ
    if _is_off(environ):
        return None
    if raw is not None:
        form = validate_adapter(TracesForm, raw, "traces", environ=environ)
        if problem := _problem(form.endpoint):
            located = raw if isinstance(raw, Located) else Located(raw, prefix=("traces",))
            raise located.error(problem, _MEND, ("endpoint",))
        return TraceSettings(_with_path(form.endpoint), form.headers, form.timeout)
    variable = TRACES_ENDPOINT if environ.get(TRACES_ENDPOINT) else ENDPOINT
    url = environ.get(variable, "")
    if not url:
        return None
    protocol = environ.get(TRACES_PROTOCOL) or environ.get(PROTOCOL) or OURS
    if protocol != OURS:
        mend = f"set {TRACES_PROTOCOL}={OURS} and {TRACES_ENDPOINT} for it, or OTEL_TRACES_EXPORTER=none"
        raise ConfigurationError(f"traces leave by {OURS} only, not by {protocol}", mend, field=PROTOCOL)
    if problem := _problem(url):
        raise ConfigurationError(problem, _MEND, field=variable)
    return TraceSettings(url if variable == TRACES_ENDPOINT else _with_path(url))


def _is_off(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"


def _with_path(url: str) -> str:
    url = url.rstrip("/")
    return url if url.endswith(PATH) else url + PATH
