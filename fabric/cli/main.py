"""The root of the command line, and the one place where an error becomes text and an exit code.

0 ok, 1 a job failed or the fabric did, 2 usage or configuration, 3 rejected, 4 no fabric there.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

import fabric
from fabric.cli.lazy import LazyGroup, Settings
from fabric.errors import FabricError

COMMANDS = {
    "up": ("fabric.cli.up:up", "Start a fabric: the laptop twin, or on a Ray cluster (--address)."),
    "down": ("fabric.cli.down:down", "End the twin that `fabric up` started."),
    "status": ("fabric.cli.status:status", "Nodes, health, use, leases and idle cost, tier by tier."),
    "console": ("fabric.cli.console:console", "The fabric in a browser: pools, timeline, queue, models, policy, usage."),
    "tiers": ("fabric.cli.tiers:tiers", "Flavors of every tier: nodes, slots, price and peaks."),
    "submit": ("fabric.cli.submit:submit", "Queue a program or a shell command line as a job."),
    "queue": ("fabric.cli.queue:queue", "Jobs that run, wait and ended."),
    "logs": ("fabric.cli.logs:logs", "A job's output; -f follows it."),
    "cancel": ("fabric.cli.cancel:cancel", "End jobs, or take them out of the queue."),
    "raise": ("fabric.cli.raise_jobs:raise_jobs", "Give jobs another priority class."),
    "plan": ("fabric.cli.plan:plan", "Where and when a job would run and what it would cost; nothing is submitted."),
    "usage": ("fabric.cli.usage:usage", "Who used what, by user, queue or model."),
    "efficiency": ("fabric.cli.efficiency:efficiency", "Asked for against used, of a job or by user, queue or task, in dollars."),
    "policy": ("fabric.cli.policy:policy", "The scheduling policy: apply, show, history, rollback, what-if."),
    "token": ("fabric.cli.token:token", "The API's tokens: create, list, revoke."),
    "profile": ("fabric.cli.profile:profile", "What a model, a callable or a script needs, and its time and cost on each flavor."),
    "explain": ("fabric.cli.explain:explain", "Why a task or a call goes where it goes."),
    "profiles": ("fabric.cli.profiles:profiles", "What was measured of tasks: export, import, forget."),
    "simulate": ("fabric.cli.simulate:simulate", "Run a trace of jobs through the scheduler on virtual time."),
    "replay": ("fabric.cli.replay:replay", "Run what the journal recorded again, under another policy or on other machines."),
    "model": ("fabric.cli.model:model", "Models: deploy, list, show; register versions, find and name them."),
    "rollout": ("fabric.cli.rollout:rollout", "New versions of models, step by step, with guards and automatic rollback."),
    "experiment": ("fabric.cli.experiment:experiment", "Versions of a model against one another, by what users do."),
    "node": ("fabric.cli.node:node", "Labels of this machine; cordon, uncordon and drain nodes."),
    "metrics": ("fabric.cli.metrics:metrics", "Metrics for Prometheus: list them; export a Grafana dashboard."),
    "config": ("fabric.cli.config:config", "The settings in force and where each came from."),
    "doctor": ("fabric.cli.doctor:doctor", "Check this machine and the cluster, with a cure for each fault."),
}
EXIT_INTERRUPTED = 130


class Root(LazyGroup):
    """The `fabric` command: errors leave as `error[code]: message` and `hint: …`, never as a traceback without --debug."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        settings = extra.setdefault("obj", Settings())
        try:
            status = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except SystemExit:
            raise
        except BaseException as error:  # whatever it is, it is told in one shape
            status = _told(error, settings.is_debugging)
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader (`| head`) has seen enough. Python would flush once more at exit: give it somewhere to.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return result


def _told(error: BaseException, is_debugging: bool) -> int:
    """Print the error as it should look; its exit status."""
    if is_debugging:
        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
    text, status = _rendered(error)
    click.echo(text, err=True)
    return status


def _rendered(error: BaseException) -> tuple[str, int]:
    if isinstance(error, FabricError):
        return error.render(), error.exit_status
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "fabric"
        return f"error[usage]: {error.format_message()}\nhint: `{path} --help`", 2
    if isinstance(error, click.ClickException):
        return f"error[usage]: {error.format_message()}", 2
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return "error[interrupted]: stopped by you", EXIT_INTERRUPTED
    message = " ".join(str(error).split()) or "no message"
    if isinstance(error, OSError):
        return f"error[os]: {message}", 1
    hint = "--debug shows the traceback; please report it"
    return f"error[bug]: {type(error).__name__}: {message}\nhint: {hint}", 1


@click.group(cls=Root, name="fabric", table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(fabric.__version__, prog_name="tierfabric", message="%(prog)s %(version)s")
def cli() -> None:
    """Route, queue and serve work on Ray across tiers of mixed hardware, by measured speed and price.

    Start with `fabric up`, then `fabric status`.
    """


def main() -> NoReturn:
    """The console script."""
    cli(prog_name="fabric")
    raise SystemExit(0)


if __name__ == "__main__":
    main()
