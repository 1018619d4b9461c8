"""The description of an API in YAML: every mistake is named with file, line, field and mend."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prober.assembly import TARGETS
from prober.config import ConfigurationForm, load_settings
from prober.errors import ConfigurationError
from prober.targets.http_form import HttpSettings, read_settings
from tests.conformance.targets import DESCRIBED

HEAD = """\
environment: test
keys: [{id: a, secret: "0123456789abcdef0123"}]
target:
  adapter: http
  url: http://api.example
  channels: [one]
"""
GOOD = """\
steps:
  create:
    path: /things/{kind}
    headers: {X-Trace: "{trace_id?}"}
    json:
      labels: {probe: "{marker}"}
      list: [1, "{channels}"]
    publication_id: data.id
status:
  path: /things/{publication_id}
  states: [done]
withdraw: {path: "/things/{publication_id}"}
listing:
  channels: {path: /channels, items: data, id: id, name: name}
  publications:
    path: /things
    id: id
    page: {parameter: page, counts: pages, first: 1}
"""


Read = Callable[[str], HttpSettings]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """The target's settings from a file whose target goes on with a text."""

    def reading(target: str) -> HttpSettings:
        path = tmp_path / "prober.yaml"
        path.write_text(HEAD + textwrap.indent(target, "  "), encoding="utf-8")
        raw = load_settings(path).target
        assert raw is not None
        return read_settings(raw)

    monkeypatch.setenv("CANARY", "canary {marker} {x")
    return reading


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            '"{marker}"',
            '"{makrer}"',
            (12, "steps.create.json.labels.probe", "there is no placeholder {makrer} (did you mean 'marker'?)"),
        ),
        (
            '"{channels}"',
            '"{chanels}"',
            (13, "steps.create.json.list[1]", "there is no placeholder {chanels} (did you mean 'channels'?)"),
        ),
        (
            '"{marker}"',
            "{marker}",
            (
                12,
                "steps.create.json.labels.probe",
                'expected text, got fields (placeholders stand in values, and in quotes: "{marker}")',
            ),
        ),
        (
            '"{trace_id?}"',
            '"{publication_id}"',
            (10, "steps.create.headers.X-Trace", "there is no placeholder {publication_id} in this request"),
        ),
        ("/{publication_id}", "/{marker}", (16, "status.path", "there is no placeholder {marker} in this request")),
        ("/{kind}", "/{kind", (9, "steps.create.path", "'{' is no placeholder")),
        ("/things/{kind}", "things", (9, "steps.create.path", "must begin with one '/'")),
        ("/things/{kind}", "//elsewhere", (9, "steps.create.path", "must begin with one '/'")),
        ("/things/{kind}", "/things?a=b", (9, "steps.create.path", "see query")),
        ("X-Trace", "Authorization", (10, "steps.create.headers", "Authorization is set by the prober itself")),
        ("data.id", "data..id", (14, "steps.create.publication_id", "'data..id' is no path")),
        (
            "publication_id: data.id",
            "publication_ids: data.id",
            (14, "steps.create.publication_ids", "unknown field (did you mean 'publication_id'?)"),
        ),
        ("publication_id: data.id", "accepted: [2xx, 700]", (14, "steps.create.accepted", "'700' is no status")),
        (
            "publication_id: data.id",
            "known_as: '{probe}'\\n    publication_id: data.id",
            (8, "steps.create", "give only one of publication_id and known_as"),
        ),
        ("publication_id: data.id", "form: {a: b}", (8, "steps.create", "give only one of json and form")),
        ("publication_id: data.id", "times: {Bad Name: a.b}", (14, "steps.create.times", "is no name")),
        ("  create:", "  creat:", (8, "steps.creat", "unknown field (did you mean 'create'?)")),
        ("states: [done]", "states: [a b]", (17, "status.states", "is no name")),
        ("path: /channels,", "path: channels,", (20, "listing.channels.path", "must begin with one '/'")),
        (", name: name", "", (20, "listing.channels.name", "missing")),
        ("items: data,", "items: data..x,", (20, "listing.channels.items", "'data..x' is no path")),
        (
            "items: data,",
            'query: {q: "{marker}"},',
            (20, "listing.channels.query.q", "there is no placeholder {marker} in this request"),
        ),
        (
            "counts: pages",
            "counts: lines",
            (24, "listing.publications.page.counts", "'lines' is not one of items, pages"),
        ),
        ("publications:", "publicatons:", (21, "listing.publicatons", "did you mean 'publications'?")),
        (
            'withdraw: {path: "/things/{publication_id}"}',
            "check_text: true",
            (21, "listing.publications", "what it lists could not be withdrawn (describe target.withdraw, too"),
        ),
        (
            '"{marker}"',
            '"${env:CANARY}"',
            (12, "steps.create.json.labels.probe", "a reference would be read as part of the template"),
        ),
    ],
)
def test_mistakes(read: Read, tmp_path: Path, old: str, new: str, expected: tuple[int, str, str]) -> None:
    """A mistake anywhere, however deep, is told with its line, its field, and the nearest right name."""
    assert old in GOOD
    with pytest.raises(ConfigurationError) as caught:
        read(GOOD.replace(old, new.replace("\\n", "\n")))
    error = caught.value
    line, field, problem = expected
    assert (error.file, error.line, error.field) == (str(tmp_path / "prober.yaml"), line, f"target.{field}")
    assert problem in str(error).replace(f"{error.file}:{error.line}: {error.field}: ", "")
    assert "canary" not in str(error)


def test_good(read: Read) -> None:
    """What is right is read, with its defaults."""
    settings = read(GOOD)
    assert settings.steps.create.accepted == frozenset(range(200, 300))
    assert settings.errors.refused == frozenset(range(400, 500))
    assert (settings.auth_header, settings.auth_scheme, settings.check_text) == ("Authorization", "Bearer", False)


def test_a_secret_is_a_value_and_never_shown(read: Read) -> None:
    """A secret is named under values, whatever it looks like: it is no template, and no repr shows it."""
    text = GOOD.replace('"{marker}"', '"{values.api_key}"') + 'values: {api_key: "${env:CANARY}"}\n'
    settings = read(text)
    assert settings.values["api_key"].get_secret_value() == "canary {marker} {x"
    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    "changes",
    [
        {"auth_header": "User-Agent"},
        {"auth_header": "a b"},
        {"auth_scheme": "two words"},
        {"values": {"Bad Name": "x"}},
        {"values": {"empty": ""}},
        {"token": "a", "token_file": "b"},
        {"url": "http://user:pass@api.example"},
        {"steps": {}},
        {"listing": {}},
        {"health": {"path": "/health", "dependencies": {"Bad-Label": "a"}}},
    ],
)
def test_other_mistakes(changes: dict[str, Any]) -> None:
    """Whatever would break a header, a label or a request is refused at the start."""
    good = {"url": "http://api.example", "steps": {"create": {"path": "/"}}}
    assert read_settings(good)
    with pytest.raises(ConfigurationError):
        read_settings({**good, **changes})


@pytest.mark.parametrize(("told", "right"), [("Probes", True), ("probes", False)])
def test_a_target_channel_is_allowed_to_the_letter(tmp_path: Path, told: str, right: bool) -> None:
    """Two ids that differ in capitals are two: what the allow-list does not hold is told at the start."""
    path = tmp_path / "prober.yaml"
    observer = "observers: {box: {adapter: imap}}\n"
    channel = f"channels: {{email: {{observer: box, kind: email, address: a@b.example, target_channel: {told}}}}}\n"
    path.write_text(HEAD.replace("[one]", "[Probes]") + observer + channel, encoding="utf-8")
    if right:
        assert load_settings(path).channels["email"].target_channel == told
        return
    with pytest.raises(ConfigurationError, match="did you mean 'Probes'"):
        load_settings(path)


def test_every_target_stands_in_the_schema() -> None:
    """The table of targets and the form's choices are the same, so that the JSON schema names each of them."""
    schema = ConfigurationForm.model_json_schema()
    assert schema["$defs"]["TargetForm"]["properties"]["adapter"]["enum"] == list(TARGETS)


def test_the_described_api_is_read() -> None:
    """The description that the conformance suite uses is one of a file's, too."""
    import yaml

    assert read_settings({**yaml.safe_load(DESCRIBED.read_text(encoding="utf-8")), "url": "http://api.example"})
