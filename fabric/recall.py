"""Explains calls that this process made: their routes as they were decided, against what was measured."""

from __future__ import annotations

from typing import Any

from fabric import client as fabric_client
from fabric import ray_io
from fabric.client import Call, Client
from fabric.errors import UserError
from fabric.explanation import Explanation
from fabric.types import Run


def explain(ref: Any) -> Explanation:
    """Explain one call: its route, the reason, predicted against measured, and what every alternative would have been.

    Raises: UserError for a ref that no task of this process returned, or one 10,000 calls ago.
    """
    client = fabric_client.current()
    call = client.find(ref) if hasattr(ref, "task_id") else None
    if call is None:
        hint = "pass the ObjectRef that task.remote(…) returned, in the process that called it"
        raise UserError(f"{ref!r} is not a lately made call of a task", code="unknown_call", hint=hint)
    call_id = ray_io.call_id(ref)
    return _explanation(client, call, call_id, client.run_of(call_id))


def explain_all(task: Any) -> list[Explanation]:
    """Explain every lately finished call of a task by this process, oldest first."""
    client = fabric_client.current()
    client.sweep()
    measured = {run.call_id: run for run in client.runs(task.key)}
    calls = [call for call in client.history if call.task == task.key]
    return [_explanation(client, call, call.call_id, measured.get(call.call_id)) for call in calls]


def _explanation(client: Client, call: Call, call_id: str, run: Run | None) -> Explanation:
    route = call.plan.replay(call.load, call.candidate)
    told = call.plan.sums.get(route.chosen.variant, "")
    return Explanation(call.task, client.profiles[call.task].fingerprint, route, run, call_id, told)
