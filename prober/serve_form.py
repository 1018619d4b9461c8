"""The ``serve`` part of ``prober.yaml``: what the always-on service needs besides what it probes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr

from prober.references import has_reference
from prober.validation import Form, Seconds, validate_adapter
from prober.yaml_source import Located

_MIN_TOKEN = 16


def _long_enough(token: SecretStr) -> SecretStr:
    if len(token.get_secret_value()) < _MIN_TOKEN and not has_reference(token.get_secret_value()):
        raise ValueError(f"is shorter than {_MIN_TOKEN} characters: make it long and random")
    return token


class ServeForm(Form):
    """The bearer token for what makes the prober act, the heartbeat, the textfile, the patience at the end."""

    token: Annotated[SecretStr, AfterValidator(_long_enough)] | None = None
    heartbeat: SecretStr | None = None
    heartbeat_every: Seconds = 60.0
    textfile: Annotated[str, Field(min_length=1)] | None = None
    drain: Seconds = 30.0


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """What the form stands for. ``heartbeat`` is a URL and secret; ``textfile`` a path, empty for none; seconds."""

    token: SecretStr | None = None
    heartbeat: SecretStr | None = None
    heartbeat_every: float = 60.0
    textfile: str = ""
    drain: float = 30.0


def serve_of(raw: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> ServeSettings:
    """What the part stands for, its references followed now: only who serves needs them. Raises ConfigurationError.

    A relative path counts from the configuration's folder.
    """
    form = validate_adapter(ServeForm, raw, "serve", environ=environ)
    folder = raw.folder if isinstance(raw, Located) else Path()
    textfile = str(folder / Path(form.textfile).expanduser()) if form.textfile else ""
    return ServeSettings(form.token, form.heartbeat, form.heartbeat_every, textfile, form.drain)


def textfile_of(raw: Mapping[str, Any]) -> ServeSettings:
    """Of the same part only what a short-lived process needs: the textfile. Raises ConfigurationError.

    What only the service needs, such as its token, need not be there.
    """
    return serve_of(raw.only("textfile") if isinstance(raw, Located) else {})
