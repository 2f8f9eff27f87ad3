"""Leases as JSON lines: who held what from when to when, and the work done; one line from a start or move to the next."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fabric.errors import ConfigError
from fabric.text_file import read_text


@dataclass(frozen=True, slots=True)
class LeaseLine:
    """`job`: its line in the trace from 0. `gpus`: accelerators (vCPUs) held. `steps`: work done and kept."""

    job: int
    flavor: str
    gpus: float
    start_s: float
    end_s: float
    steps: float

    def as_json(self) -> str:
        gpus = int(self.gpus) if self.gpus == int(self.gpus) else self.gpus
        row = {"job": self.job, "flavor": self.flavor, "gpus": gpus, "start_s": self.start_s, "end_s": self.end_s, "steps": self.steps}
        return json.dumps(row)


def write_leases(path: Path, leases: Iterable[LeaseLine]) -> None:
    """In the order of their ends. Raises: ConfigError `unwritable_file`."""
    try:
        with path.open("w", encoding="utf-8") as out:
            out.writelines(f"{lease.as_json()}\n" for lease in leases)
    except OSError as error:
        raise ConfigError(
            f"the leases cannot be written to {path}: {error}", code="unwritable_file", hint="give --events another path"
        ) from None


def read_leases(path: Path) -> list[LeaseLine]:
    """What `write_leases` wrote. Raises: ConfigError `bad_events` with the line's number."""
    found = []
    for number, line in enumerate(read_text(path, "file of leases").splitlines(), start=1):
        try:
            found.append(LeaseLine(**json.loads(line)))
        except (TypeError, ValueError):
            raise ConfigError(
                f"{path.name} line {number} is not a lease", code="bad_events", hint="job, flavor, gpus, start_s, end_s, steps"
            ) from None
    return found
