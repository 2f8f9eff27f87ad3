"""Makes one machine a node, from whatever it is now: sent, installed, started. The launch and the node provider both do it this way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fabric.errors import FabricError, RejectedError, RuntimeFault
from fabric.machines import ship
from fabric.machines.facts import MachineFacts
from fabric.machines.ship import Shipment
from fabric.machines.spec import NodeSpec
from fabric.machines.ssh import Remote

AGENT_TIMEOUT_S = 180.0
Report = Callable[[str], None]


def make_ready(remote: Remote, facts: MachineFacts, shipment: Shipment, environment: str | None, python: str, report: Report) -> None:
    """Send and install what is missing. Raises: SshError, RuntimeFault."""
    if not ship.is_there(facts, shipment):
        ship.send(remote, shipment)
        report("sent")
        ship.install(remote, environment, python)
        report("installed")


def start(remote: Remote, spec: NodeSpec, *, mode: str = "keep", until: str = "up") -> dict[str, Any]:
    """Start the node there and wait for it. `mode`: what becomes of one that runs already with other settings: `keep` refuses,
    `restart` ends it first, `fresh` ends any. `until`: `gcs` returns as soon as others can join a head.

    Raises: SshError; RejectedError, RuntimeFault with the machine's own words.
    """
    return ask(remote, spec.environment, ["start", mode, until], stdin=spec.to_json())


def stop(remote: Remote, environment: str, cluster: str, *, is_final: bool = False) -> dict[str, Any]:
    """End the node there. `is_final`: what a head remembers of nodes and actors goes too. Raises: as `start`."""
    return ask(remote, environment, ["stop", cluster, *(["final"] if is_final else [])])


def ask(remote: Remote, environment: str, words: list[str], *, stdin: str = "") -> dict[str, Any]:
    """Run the agent there and read its answer. Raises: SshError, FabricError with the code that it gave."""
    command = f"{environment}/bin/python -m fabric.machines.agent {' '.join(words)}"
    outcome = remote.run(command, stdin=stdin.encode(), timeout_s=AGENT_TIMEOUT_S)
    try:
        answer: dict[str, Any] = json.loads(outcome.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise RuntimeFault(
            "tierfabric does not run there", code="agent_failed", hint="see its own words above", log=outcome.last_lines()
        ) from None
    if "error" not in answer:
        return answer
    raise _told(answer)


def _told(answer: dict[str, Any]) -> FabricError:
    code, message, hint = answer.pop("error"), answer.pop("message"), answer.pop("hint", None)
    kind = RejectedError if code in ("launch_running", "other_cluster", "settings_changed") else RuntimeFault
    context = {name: value for name, value in answer.items() if isinstance(value, str | int | float | bool)}
    return kind(message, code=code, hint=hint, **context)
