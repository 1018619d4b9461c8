"""Debian's Alertmanager on loopback, without a cluster, with a configuration of its own."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.servers.programs import HOST, free_port, program, running, short_folder


@dataclass(frozen=True)
class Alertmanager:
    """A server that runs."""

    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "alertmanager.output"

    def alerts(self) -> list[dict[str, Any]]:
        """What fires now."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=10) as answer:  # noqa: S310 - loopback
            return list(json.load(answer))

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2):  # noqa: S310 - loopback
                return True
        except OSError:
            return False


@contextlib.contextmanager
def alertmanager(configuration: Mapping[str, Any]) -> Iterator[Alertmanager]:
    """A server of one's own, from when it is ready."""
    binary = program("prometheus-alertmanager", "prometheus-alertmanager")
    with short_folder("alertmanager") as folder:
        server = Alertmanager(folder, free_port())
        file = folder / "alertmanager.yml"
        file.write_text(yaml.safe_dump(dict(configuration)))
        command = [binary, f"--config.file={file}", f"--storage.path={folder}/data", "--cluster.listen-address=",
                   f"--web.listen-address={HOST}:{server.port}"]  # fmt: skip
        with running(command, server._is_ready, folder / "alertmanager.log"):
            yield server
