"""``prober.yaml`` and the environment -> Settings: values, with secrets as references until they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema

from prober.errors import ConfigurationError
from prober.limits_form import LimitSettings, LimitsForm, limits_of, wrong_limits
from prober.model import Channel, ChannelKind
from prober.nearest import did_you_mean
from prober.objective_form import ObjectiveForm, objectives_of, wrong_objectives
from prober.objectives import Objective
from prober.references import has_reference, resolve
from prober.serve_form import ServeForm
from prober.traces_form import TracesForm
from prober.validation import NAMED, Form, Name, first_of, validate, validate_adapter
from prober.yaml_source import Loc, Located, read_located, sealed

__all__ = [
    "ADAPTER_KINDS",
    "ConfigurationForm",
    "Settings",
    "SigningKeySettings",
    "configuration_schema",
    "default_ledger_path",
    "dump_configuration",
    "find_configuration",
    "load_settings",
    "searched_paths",
    "settings_from_mapping",
    "validate_adapter",
]

CONFIGURATION_FILE = "prober.yaml"
CONFIGURATION_VARIABLE = "PROBER_CONFIG"

ADAPTER_KINDS: Mapping[str, ChannelKind] = {
    "imap": ChannelKind.EMAIL,
    "s3": ChannelKind.EMAIL,
    "slack": ChannelKind.SLACK,
    "discord": ChannelKind.DISCORD,
}
"""Which kind of channel each observer's adapter reads."""

_LATE = frozenset({"target", "observers", "serve", "traces"})
"""Parts whose references are followed only when their owners validate them."""

_MIN_SECRET = 16


def _digits_are_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _one_character(text: str) -> str:
    if len(text) != 1 or text not in ascii_lowercase + digits:
        raise ValueError("a key's id is one character, a to z or 0 to 9")
    return text


Id = Annotated[str, BeforeValidator(_digits_are_text, json_schema_input_type=str | int), Field(min_length=1)]
"""A provider's id: ids that are all digits need no quotes."""

KeyId = Annotated[
    Id,
    AfterValidator(_one_character),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": "^[a-z0-9]$"}, {"type": "integer", "maximum": 9}]}),
]


class KeyForm(Form):
    """One signing key; the first signs, all verify."""

    id: KeyId
    secret: SecretStr


class AdapterForm(Form):
    """An adapter by name; its other settings are validated by the adapter itself."""

    model_config = ConfigDict(extra="allow")


class TargetForm(AdapterForm):
    """The publishing system that is probed."""

    adapter: Literal["publishing_module", "http"]


class ObserverForm(AdapterForm):
    """One account through which channels are read."""

    adapter: Literal["imap", "s3", "slack", "discord"]


class ChannelForm(Form):
    """One place where messages become visible."""

    observer: str
    kind: ChannelKind
    address: Id
    target_channel: Id | None = None
    senders: tuple[Id, ...] = ()


class ConfigurationForm(Form):
    """The whole of ``prober.yaml``."""

    environment: Name
    location: Name = "local"
    keys: Annotated[tuple[KeyForm, ...], Field(min_length=1, max_length=2)]
    target: TargetForm | None = None
    observers: dict[Name, ObserverForm] = Field(default_factory=dict, json_schema_extra=NAMED)
    channels: dict[Name, ChannelForm] = Field(default_factory=dict, json_schema_extra=NAMED)
    objectives: dict[Name, ObjectiveForm] | None = Field(default=None, json_schema_extra=NAMED)
    ledger: Annotated[str, Field(min_length=1)] | None = None
    limits: LimitsForm = LimitsForm()
    serve: ServeForm = ServeForm()
    traces: TracesForm | None = None


@dataclass(frozen=True, slots=True)
class SigningKeySettings:
    """One key of the environment; the first of them signs."""

    id: str
    secret: SecretStr


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """A validated configuration; its ``repr`` shows names only.

    ``target``, the values of ``observers``, ``serve`` and ``traces`` still hold references: their owners read them with
    :func:`validate_adapter`. ``ledger`` is a path or URL, empty when none is configured: the default
    place, or a thrown-away one on the sandbox. ``source`` names the file.
    """

    environment: str
    location: str
    keys: tuple[SigningKeySettings, ...]
    target: Mapping[str, Any] | None
    observers: Mapping[str, Mapping[str, Any]]
    channels: Mapping[str, Channel]
    objectives: tuple[Objective, ...]
    ledger: str
    limits: LimitSettings
    serve: Mapping[str, Any]
    source: str
    traces: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Settings(source={self.source!r}, observers={[*self.observers]}, channels={[*self.channels]})"


@sealed
def load_settings(path: Path, environ: Mapping[str, str] | None = None) -> Settings:
    """The configuration in a file. Raises ConfigurationError with the file, line and field that are wrong."""
    return _settings(read_located(path), environ)


@sealed
def settings_from_mapping(
    mapping: Mapping[str, Any], source: str, environ: Mapping[str, str] | None = None
) -> Settings:
    """A configuration that was made, not written; ``source`` names it in errors. Raises ConfigurationError."""
    return _settings(mapping if isinstance(mapping, Located) else Located(mapping, source), environ)


def dump_configuration(mapping: Mapping[str, Any]) -> str:
    """The text of a ``prober.yaml`` with these values, secrets included."""
    return yaml.safe_dump(_plain(mapping), sort_keys=False, default_flow_style=False)


def configuration_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of ``prober.yaml``."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ConfigurationForm.model_json_schema()}


def searched_paths(explicit: str | None, environ: Mapping[str, str], cwd: Path) -> tuple[Path, ...]:
    """Where a configuration is looked for, first things first; one that is named explicitly stands alone."""
    named = explicit or environ.get(CONFIGURATION_VARIABLE)
    if named:
        return (cwd / Path(named).expanduser(),)
    return (cwd / CONFIGURATION_FILE, _xdg(environ, "XDG_CONFIG_HOME", ".config") / CONFIGURATION_FILE)


def find_configuration(explicit: str | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The configuration file that applies, None without one.

    Raises ConfigurationError when ``--config`` or PROBER_CONFIG names a file that does not exist.
    """
    paths = searched_paths(explicit, environ, cwd)
    found = next((path for path in paths if path.is_file()), None)
    if found is None and (explicit or environ.get(CONFIGURATION_VARIABLE)):
        field = "--config" if explicit else CONFIGURATION_VARIABLE
        problem = "is a folder" if paths[0].is_dir() else "there is no such file"
        raise ConfigurationError(problem, "check the path", str(paths[0]), field=field)
    return found


def default_ledger_path(environ: Mapping[str, str]) -> Path:
    """The ledger's place when none is configured, in the XDG state directory."""
    return _xdg(environ, "XDG_STATE_HOME", ".local/state") / "ledger.sqlite"


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> Path:
    # The XDG base directory specification says that a relative path in these variables is to be ignored.
    configured = Path(environ.get(variable, ""))
    home = environ.get("HOME")
    directory = configured if configured.is_absolute() else (Path(home) if home else Path.home()) / default
    return directory / "prober"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def _settings(located: Located, environ: Mapping[str, str] | None) -> Settings:
    resolved = resolve(located, environ, keep=_LATE)
    form = validate(ConfigurationForm, located, resolved)
    problems = [located.error(problem, mend, loc) for problem, mend, loc in _contradictions(form, located, environ)]
    if problems:
        raise first_of(problems)
    return Settings(
        environment=form.environment,
        location=form.location,
        keys=tuple(SigningKeySettings(key.id, key.secret) for key in form.keys),
        target=located.inside("target") if form.target else None,
        observers={name: located.inside("observers", name) for name in form.observers},
        channels={name: _channel(name, channel) for name, channel in form.channels.items()},
        objectives=objectives_of(form.objectives),
        ledger=_ledger(form.ledger, located.folder),
        limits=limits_of(form.limits, located.folder),
        serve=located.inside("serve") if "serve" in located else {},
        traces=located.inside("traces") if form.traces is not None else None,
        source=located.source,
    )


def _channel(name: str, form: ChannelForm) -> Channel:
    return Channel(name, form.kind, form.observer, form.address, form.target_channel or "", form.senders)


def _ledger(configured: str | None, folder: Path) -> str:
    if configured is None or "://" in configured:
        return configured or ""
    return str(folder / Path(configured).expanduser())


def _contradictions(
    form: ConfigurationForm, located: Located, environ: Mapping[str, str] | None
) -> Iterator[tuple[str, str, Loc]]:
    """What no single field can know is wrong: problem, mend, place."""
    ids = [key.id for key in form.keys]
    if len(set(ids)) < len(ids):
        yield "both keys have the same id", "give each key its own id", ("keys", 1, "id")
    for at, key in enumerate(form.keys):
        if len(key.secret.get_secret_value()) < _MIN_SECRET:
            yield f"is shorter than {_MIN_SECRET} characters", "make it long and random", ("keys", at, "secret")
    allowed = _allowed_target_channels(located, environ)
    first: dict[tuple[ChannelKind, str], str] = {}
    for name, channel in form.channels.items():
        loc: Loc = ("channels", name)
        yield from ((problem, mend, (*loc, field)) for problem, mend, field in _misfits(channel, form, allowed))
        address = channel.address.casefold() if channel.kind is ChannelKind.EMAIL else channel.address
        other = first.setdefault((channel.kind, address), name)
        if other != name:
            yield f"channel {other!r} has the same address", "give each channel its own address", (*loc, "address")
    yield from wrong_objectives(form.objectives or {}, form.channels)
    yield from wrong_limits(form.limits)


def _misfits(channel: ChannelForm, form: ConfigurationForm, allowed: _Allowed | None) -> Iterator[tuple[str, str, str]]:
    observer = form.observers.get(channel.observer)
    if observer is None:
        mend = did_you_mean(channel.observer, form.observers) or "configure it under observers"
        yield "no observer has this name", mend, "observer"
    elif ADAPTER_KINDS[observer.adapter] is not channel.kind:
        fit = ADAPTER_KINDS[observer.adapter]
        problem = f"observer adapter {observer.adapter!r} reads {fit} channels, not {channel.kind}"
        yield problem, f"write kind: {fit}, or name another observer", "kind"
    if channel.kind is ChannelKind.EMAIL and not _is_email(channel.address):
        yield "this is no e-mail address", "write name@domain", "address"
    if channel.target_channel and allowed is not None and allowed.fold(channel.target_channel) not in allowed.ids:
        # Only what the file itself says is suggested: what a reference stands for is never shown.
        mend = did_you_mean(channel.target_channel, allowed.written) or "add it to target.channels"
        yield "this target channel is not in target.channels, the list of allowed ones", mend, "target_channel"


def _is_email(address: str) -> bool:
    name, at, domain = address.rpartition("@")
    return bool(name and at and domain) and not any(letter.isspace() for letter in address)


@dataclass(frozen=True, slots=True)
class _Allowed:
    ids: frozenset[str]
    written: tuple[str, ...]
    fold: Callable[[str], str]


def _allowed_target_channels(located: Located, environ: Mapping[str, str] | None) -> _Allowed | None:
    target = located.get("target")
    if not isinstance(target, Mapping) or not isinstance(target.get("channels"), (list, tuple)):
        return None
    resolved = resolve(located.inside("target").only("channels"), environ).fields["channels"]
    written = tuple(str(channel) for channel in target["channels"] if not has_reference(channel))
    # The Publishing Module's ids are UUIDs, in which capitals mean nothing; elsewhere they may.
    fold = str if target.get("adapter") == "http" else str.lower
    return _Allowed(frozenset(fold(str(channel)) for channel in resolved), written, fold)
