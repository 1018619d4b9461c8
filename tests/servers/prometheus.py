"""Debian's Prometheus on loopback, with a configuration of its own."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.servers.programs import HOST, free_port, program, running, short_folder


@dataclass(frozen=True)
class Prometheus:
    """A server that runs."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def query(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """An instant query: the value of each series, by its labels without job and instance."""
        found = self._ask("query", query=expression)["result"]
        return {_labels(one["metric"]): float(one["value"][1]) for one in found}

    def sum(self, expression: str) -> float | None:
        """The one value of an expression, None without any."""
        return next(iter(self.query(expression).values()), None)

    def exemplars(self, expression: str, start: float, end: float) -> list[dict[str, Any]]:
        """Every exemplar of the series that match."""
        found = self._ask("query_exemplars", query=expression, start=str(start), end=str(end))
        return [one for series in found for one in series["exemplars"]]

    def alerts(self) -> set[str]:
        """The names of the alerts that fire."""
        return {one["labels"]["alertname"] for one in self._ask("alerts")["alerts"] if one["state"] == "firing"}

    def _ask(self, what: str, **parameters: str) -> Any:
        address = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - loopback
            return json.load(answer)["data"]

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2):  # noqa: S310 - loopback
                return True
        except OSError:
            return False


def _labels(metric: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((k, v) for k, v in metric.items() if k not in {"job", "instance", "__name__"}))


@contextlib.contextmanager
def prometheus(configuration: Mapping[str, Any]) -> Iterator[Prometheus]:
    """A server of one's own, from when it is ready."""
    binary = program("prometheus", "prometheus")
    with short_folder("prometheus") as folder:
        place = folder / "prometheus.yml"
        place.write_text(yaml.safe_dump(dict(configuration)), encoding="utf-8")
        server = Prometheus(folder, free_port())
        command = [
            binary,
            f"--config.file={place}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={HOST}:{server.port}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]
        with running(command, server._is_ready, folder / "prometheus.log"):
            yield server
