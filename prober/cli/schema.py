"""``prober schema``: the forms of what is read and written, for editors and programs."""

from __future__ import annotations

import json
import sys

from prober.cli.options import one_of


def schema_command(what: str) -> None:
    """Write one JSON schema to stdout. Raises ConfigurationError for an unknown form."""
    one_of("schema", what, ("scenario", "content", "configuration", "result"))
    sys.stdout.write(json.dumps(_schema(what), indent=2) + "\n")


def _schema(what: str) -> dict[str, object]:
    if what == "configuration":
        from prober.config import configuration_schema

        return configuration_schema()
    if what == "result":
        from prober.report.schema import result_schema

        return result_schema()
    from prober.scenario_files import content_schema, scenario_schema

    return scenario_schema() if what == "scenario" else content_schema()
