"""`fabric rollout`: start, status, pause, resume, promote, abort, rollback. Over the API, without Ray."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fabric.cli.job_options import client
from fabric.cli.lazy import FabricCommand, LazyGroup, Settings
from fabric.cli.session import emit, output_option
from fabric.errors import UserError

COMMANDS = {
    "start": ("fabric.cli.rollout:start", "Give a version its first requests; guards decide whether it gets all."),
    "status": ("fabric.cli.rollout:status", "How far it is, and what its guards say."),
    "pause": ("fabric.cli.rollout:pause", "Keep the traffic as it is."),
    "resume": ("fabric.cli.rollout:resume", "Go on."),
    "promote": ("fabric.cli.rollout:promote", "Give the new version everything now."),
    "abort": ("fabric.cli.rollout:abort", "Give the old version everything now."),
    "rollback": ("fabric.cli.rollout:rollback", "Back to the version before, or to the one that is named."),
}
_EVERY_S = 1.0
_ENDED = ("promoted", "rolled_back", "aborted", "failed")


@click.group(cls=LazyGroup, table=COMMANDS)
def rollout() -> None:
    """New versions of models, step by step."""


@click.command(cls=FabricCommand)
@click.argument("name", required=False)
@click.option("--to", metavar="VERSION", help="A registered version, or an alias (default: the latest).")
@click.option("--steps", metavar="P,P,…", help="Percent of the requests, rising (default: 1,5,25,50,100).")
@click.option("--guard", "guards", multiple=True, metavar="GUARD", help='As "latency_p95<=1.2x", "error_rate<=+0.5%"; may be repeated.')
@click.option("--soak", metavar="TIME", help="The least time at each step (default: 1m).")
@click.option("--shadow-first", metavar="TIME", help="Copies of requests only, for so long.")
@click.option("--min-samples", type=int, metavar="N", help="Requests that a step needs (default: 30).")
@click.option("--max-surge", type=int, metavar="N", help="Replicas more than the model has now; 0: they are exchanged.")
@click.option("--tier", metavar="TIER", help="Where the new version runs: the same version on a cheaper tier, compared.")
@click.option("--allow-signature-change", is_flag=True, help="Also where its inputs or outputs differ.")
@click.option("-f", "--file", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A document of kind Rollout instead.")
@click.option("--wait", is_flag=True, help="Until it has ended; the exit code says how.")
@output_option
@click.pass_obj
def start(
    settings: Settings, /, name: str | None, to: str | None, tier: str | None, file: Path | None, wait: bool, output: str, **given: Any
) -> None:
    """Begin a rollout of model NAME."""
    spec = {key: list(value) if isinstance(value, tuple) else value for key, value in given.items() if value not in (None, (), False)}
    body: dict[str, Any] = {"model": name, "to": to, "tier": tier, "spec": spec}
    if file is not None:
        body = _merged(_document(file), body)
    if not body.get("model"):
        raise UserError("which model?", code="no_model", hint="fabric rollout start NAME --to VERSION, or -f FILE")
    body = {key: value for key, value in body.items() if value is not None}
    answer = client(settings).api.post("/v1/rollouts", body, can_repeat=False)
    if wait:
        answer = _followed(settings, body["model"], say=output == "text")
    _show(answer, output)
    if wait and answer["state"] != "promoted":
        raise click.exceptions.Exit(1)


@click.command(cls=FabricCommand)
@click.argument("name", required=False)
@click.option("--follow", is_flag=True, help="Until it has ended.")
@output_option
@click.pass_obj
def status(settings: Settings, name: str | None, follow: bool, output: str) -> None:
    """How the rollout of model NAME stands; without NAME, a line for each."""
    if name is None:
        document = client(settings).api.get("/v1/rollouts")
        emit(document, output, lambda: _rendered_list(document))
        return
    _show(_followed(settings, name, say=output == "text") if follow else client(settings).api.get(f"/v1/rollouts/{name}"), output)


def _ordering(verb: str, told: str) -> click.Command:
    @click.command(cls=FabricCommand, name=verb, help=told)
    @click.argument("name")
    @output_option
    @click.pass_obj
    def order(settings: Settings, name: str, output: str) -> None:
        _show(client(settings).api.post(f"/v1/rollouts/{name}/{verb}", {}, can_repeat=False), output)

    return order


pause = _ordering("pause", "Keep the traffic of model NAME as it is; guards go on watching.")
resume = _ordering("resume", "Go on with the rollout of model NAME.")
promote = _ordering("promote", "Give the new version of model NAME everything now, whatever its guards say.")
abort = _ordering("abort", "Give the old version of model NAME everything now.")


@click.command(cls=FabricCommand)
@click.argument("name")
@click.option("--to", metavar="VERSION", help="(default: the version before)")
@output_option
@click.pass_obj
def rollback(settings: Settings, name: str, to: str | None, output: str) -> None:
    """Back to an earlier version of model NAME. A rollout that is under way is aborted, at once; else the version is started again."""
    answer = client(settings).api.post(f"/v1/rollouts/{name}/rollback", {"to": to} if to else {}, can_repeat=False)
    told = "answers" if answer["state"] == "answers" else f"starts, and answers when it is ready: fabric model show {name}"
    emit(answer, output, lambda: f"{answer['model']}: version {answer['version']} {told}")


def _show(answer: Mapping[str, Any], output: str) -> None:
    from serve_apps.rollout.form import render_rollout

    emit(answer, output, lambda: render_rollout(answer))


def _rendered_list(document: Mapping[str, Any]) -> str:
    from serve_apps.rollout.form import render_rollouts

    return render_rollouts(document["rollouts"])


def _followed(settings: Settings, name: str, *, say: bool) -> dict[str, Any]:
    """Until it has ended; each change is a line on standard error."""
    api, said = client(settings).api, ""
    while True:
        answer: dict[str, Any] = api.get(f"/v1/rollouts/{name}")
        line = f"{name}: {answer['state']} {answer['percent']:g} %: {answer['reason']}"
        if say and line != said:
            click.echo(line, err=True)
            said = line
        if answer["state"] in _ENDED:
            return answer
        time.sleep(_EVERY_S)


def _document(file: Path) -> dict[str, Any]:
    from serve_apps.rollout.documents import read_rollout

    found = read_rollout(file.read_text(encoding="utf-8"))
    return {"model": found.model, "to": found.to, "spec": dict(found.given)}


def _merged(document: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given on the command line goes before what the document says."""
    said = {key: value for key, value in given.items() if value}
    return {**document, **said, "spec": {**document.get("spec", {}), **given["spec"]}}
