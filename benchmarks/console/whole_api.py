"""A stand-in for the fabric's API that answers every page that the console's page asks: explanations, output, models, rollouts, the policy,
usage. The jobs are the made-up world's; what is said of them is made up by their ids. Names hold what an attacker would write.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

from benchmarks.console import made_answers as made
from benchmarks.console.stand_in_api import StandInApi
from fabric.api.faults import error_json, status_of
from fabric.console.sources import HandedOn
from fabric.errors import FabricError, UserError


class WholeApi(StandInApi):
    """`StandInApi` with everything else; `orders` keeps what was ordered, as (path, body)."""

    def __init__(self, write: Any) -> None:
        super().__init__(write)
        self.orders: list[tuple[str, Any]] = []
        self._rollout = "stepping"
        self._models = {"models": [made.model("resnet-50"), made.model(made.HOSTILE)]}, {"rollouts": []}
        self._what_if_s = 0.0

    def models(self) -> Any:
        return self._models

    async def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> HandedOn:
        path, _, query = target.partition("?")
        parts = [unquote(part) for part in path.strip("/").split("/")[1:]]
        if parts[:1] == ["jobs"] and parts[2:] == ["logs"]:
            return self._logs(parts[1], int(parse_qs(query).get("offset", ["0"])[0]))
        if parts == ["usage", "export"]:
            return _answered(200, "name,cost_usd\nann,12.5\n", "text/csv")
        try:
            if method == "POST":
                self.orders.append((path, json.loads(body or b"null")))
            found = self._more(method, parts, parse_qs(query), json.loads(body or b"null"))
            status, document = 200, self._answer(method, path) if found is None else found
        except FabricError as error:
            status, document = status_of(error), error_json(error)
        return _answered(status, json.dumps(document), "application/json")

    def _more(self, method: str, parts: list[str], query: Mapping[str, list[str]], body: Any) -> Any:
        """None: `StandInApi` answers it."""
        match parts:
            case ["jobs", job, page]:
                return self._of_job(job, page, body)
            case ["models"]:
                return {"models": [made.model("resnet-50"), made.model(made.HOSTILE)]}
            case ["models", name]:
                return made.model(name)
            case ["rollouts", *rest]:
                return self._of_rollout(rest)
            case ["policy", *rest]:
                return self._of_policy(method, rest)
            case ["usage"]:
                return made.usage(query["by"][0])
            case ["nodes", node, order]:
                return {"node_id": node, "order": order}
        return None

    def _of_job(self, job: str, page: str, body: Any) -> Any:
        match page:
            case "explain":
                return self._explained(job)
            case "efficiency":
                return made.efficiency(self._view(job))
            case "story":
                return {"facts": self._facts(job)}
            case "priority":
                if body["priority"] not in ("high", "low"):
                    raise UserError(f"unknown class {body['priority']!r}", code="unknown_class", hint="did you mean high?")
                return self._view(job) | {"priority": body["priority"]}
        return None

    def _of_rollout(self, rest: list[str]) -> Any:
        match rest:
            case []:
                return {"rollouts": [self._rollout_form()]}
            case [name, "rollback"]:
                return {"model": name, "version": "2"}
            case [_, order]:
                self._rollout = {"pause": "paused", "resume": "stepping", "promote": "promoted", "abort": "aborted"}[order]
        return self._rollout_form()

    def _of_policy(self, method: str, rest: list[str]) -> Any:
        match rest:
            case ["history"]:
                return {"versions": made.policies()}
            case ["what-if"]:
                self._what_if_s = time.monotonic()
                return {"id": "1"}
            case ["what-if", _, *_]:
                return made.what_if(time.monotonic() - self._what_if_s)
            case ["rollback"]:
                return {"version": 4}
        return made.policies()[0]

    def _view(self, job: str) -> dict[str, Any]:
        found: dict[str, Any] = self._answer("GET", f"/v1/jobs/{job}")
        if found["state"] == "PENDING":
            found |= {"why": "Resources", "detail": f"all 4,096 of a100-80g are held, next free in 4 m {made.HOSTILE}"}
            found["expected_start_s"] = self.follower.now_s() + 240.0
        if found["state"] == "RUNNING":
            found |= {"done": 6200.0, "total": 10_000.0, "unit": "steps", "remaining_s": 2520.0, "remaining_log_sd": 0.2}
        return found

    def _facts(self, job: str) -> list[dict[str, Any]]:
        return [
            {"seq": each.seq, "wall_s": each.wall_s, "kind": each.kind, "by": each.body.get("by", "fabric"), "body": each.body}
            for each in self.follower.journal.story("jobs", job)
        ]

    def _explained(self, job: str) -> dict[str, Any]:
        view, now_s = self._view(job), self.follower.now_s()
        ahead = [each for each in self.open_jobs() if each["state"] == "PENDING"][:5] if view["state"] == "PENDING" else []
        kept = ("id", "name", "user", "queue", "asks", "state", "remaining_s")
        is_waiting = view["state"] == "PENDING"
        return {
            "job": view,
            "ahead": [{key: each[key] for key in kept} for each in ahead],
            "num_ahead": max(0, (view["position"] or 1) - 1) if ahead else 0,
            "expected_start_s": now_s + 240.0 if is_waiting else None,
            "expected_start_low_s": now_s + 95.0 if is_waiting else None,
            "expected_start_high_s": now_s + 610.0 if is_waiting else None,
            "ways": made.ways(),
            "counterfactuals": made.changes() if is_waiting else [],
            "events": [
                {**{key: each[key] for key in ("wall_s", "kind", "by")}, "text": made.words(each["kind"], each["body"])}
                for each in self._facts(job)
            ],
            "now_s": now_s,
        }

    def _rollout_form(self) -> dict[str, Any]:
        return made.rollout(self._rollout, self.follower.now_s())

    def _logs(self, job: str, offset: int) -> HandedOn:
        lines = [f"step {step:5d}  loss {4.0 / (1 + step / 900):.4f}  {410 + step % 7} items/s" for step in range(0, 6200, 200)]
        text = f"loading {made.HOSTILE}\n" + "\n".join(lines) + "\n"
        is_final = offset >= len(text)
        headers = {"content-type": "text/plain", "x-fabric-next-offset": str(len(text)), "x-fabric-final": str(is_final).lower()}
        return HandedOn(200, headers, _once(text[offset:].encode()))


def _answered(status: int, text: str, kind: str) -> HandedOn:
    return HandedOn(status, {"content-type": kind}, _once(text.encode()))


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
