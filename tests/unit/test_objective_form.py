"""The ``objectives`` of a configuration: what they stand for, and what is told about a wrong one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from prober.config import configuration_schema, load_settings
from prober.errors import ConfigurationError
from prober.model import PublicationKind
from prober.objectives import DEFAULT_OBJECTIVES, Indicator, Objective

HEAD = """\
environment: lab
keys: [{id: a, secret: sixteen-letters-or-more}]
observers: {mailbox: {adapter: imap}}
channels: {inbox: {observer: mailbox, kind: email, address: a@b.example}}
"""
DOCUMENTED = """\
objectives:
  alert-timeliness: {indicator: timeliness, goal: 95%, kinds: [alert]}
  newsletter-delivery: {indicator: delivery, goal: 99.5%, kinds: [newsletter]}
  publish-availability: {indicator: publish, goal: 99.9%}
  api-latency: {indicator: api_latency, goal: 95%, within: 150ms}
"""


def load(folder: Path, objectives: str) -> tuple[Objective, ...]:
    path = folder / "prober.yaml"
    path.write_text(HEAD + objectives, encoding="utf-8")
    return load_settings(path, {}).objectives


def test_without_objectives_the_documented_ones_hold(tmp_path: Path) -> None:
    """Alerts 95 % in time, newsletters 99.5 % delivered, publishing 99.9 %, answers 95 % within 150 ms, 30 days."""
    assert load(tmp_path, "") == DEFAULT_OBJECTIVES
    assert load(tmp_path, DOCUMENTED) == DEFAULT_OBJECTIVES
    assert {objective.window for objective in DEFAULT_OBJECTIVES} == {30 * 86400}


def test_what_is_written_stands_alone(tmp_path: Path) -> None:
    """Written objectives replace the defaults, and none at all may be written."""
    text = "objectives: {quiet: {indicator: silence, goal: 0.5, window: 7d, scenarios: [x], channels: [inbox]}}\n"
    chosen = Objective(
        "quiet", Indicator.SILENCE, 0.5, 7 * 86400, scenarios=frozenset({"x"}), channels=frozenset({"inbox"})
    )
    assert load(tmp_path, text) == (chosen,)
    assert load(tmp_path, "objectives: {}\n") == ()
    several = "objectives: {a: {indicator: delivery, goal: 99%, kinds: [alert, digest]}}\n"
    assert load(tmp_path, several)[0].kinds == {PublicationKind.ALERT, PublicationKind.DIGEST}


@pytest.mark.parametrize(
    ("fields", "field", "problem", "mend"),
    [
        ("{goal: 95%}", "a.indicator", "missing", ""),
        ("{indicator: timelines, goal: 95%}", "a.indicator", "not one of", "did you mean 'timeliness'?"),
        ("{indicator: delivery}", "a.goal", "missing", ""),
        ("{indicator: delivery, goal: 100%}", "a.goal", "is no goal", ""),
        ("{indicator: delivery, goal: 95}", "a.goal", "less than 100%", ""),
        ("{indicator: delivery, goal: 0}", "a.goal", "is no goal", ""),
        ("{indicator: delivery, goal: true}", "a.goal", "is no goal", ""),
        ("{indicator: delivery, goal: most}", "a.goal", "is no goal", ""),
        ("{indicator: delivery, goal: 99%, window: 1d}", "a.window", "between 72h and 9600h", ""),
        ("{indicator: delivery, goal: 99%, window: 401d}", "a.window", "between 72h and 9600h", ""),
        ("{indicator: delivery, goal: 99%, window: soon}", "a.window", "is no duration", ""),
        ("{indicator: delivery, goal: 99%, within: 30s}", "a.within", "is its scenario's", "in the scenario"),
        ("{indicator: api_latency, goal: 99%}", "a.indicator", "needs a limit", "within: 150ms"),
        ("{indicator: api_latency, goal: 99%, within: 160ms}", "a.within", "certain limits", "150ms, 200ms"),
        ("{indicator: publish, goal: 99%, channels: [inbox]}", "a.channels", "all channels together", "remove it"),
        ("{indicator: delivery, goal: 99%, channels: [inbux]}", "a.channels[0]", "no channel", "'inbox'"),
        ("{indicator: delivery, goal: 99%, channels: []}", "a.channels", "at least 1", ""),
        ("{indicator: delivery, goal: 99%, kinds: [letter]}", "a.kinds[0]", "not one of", ""),
        ("{indicator: delivery, goal: 99%, scenario: x}", "a.scenario", "unknown field", "'scenarios'"),
    ],
)
def test_a_wrong_objective_is_named_with_its_place(
    tmp_path: Path, fields: str, field: str, problem: str, mend: str
) -> None:
    """File, line, field, what is wrong and the mend."""
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, f"objectives:\n  a: {fields}\n")
    error = caught.value
    assert (error.file, error.line, error.field) == (str(tmp_path / "prober.yaml"), 6, f"objectives.{field}"), error
    assert problem in error.problem
    assert mend in error.mend


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (DOCUMENTED, True),
        ("objectives: {a: {indicator: api_latency, goal: 0.95, within: 0.15, window: 2592000}}\n", True),
        ("objectives: {a: {indicator: delivery, goal: 95}}\n", False),
        ("objectives: {A: {indicator: delivery, goal: 95%}}\n", False),
        ("objectives: {a: {goal: 95%}}\n", False),
    ],
)
def test_the_schema_knows_the_form(text: str, right: bool) -> None:
    """The JSON schema of the configuration takes what is right and refuses what is wrong."""
    document: dict[str, Any] = yaml.safe_load(HEAD + text)
    assert jsonschema.Draft202012Validator(configuration_schema()).is_valid(document) is right
