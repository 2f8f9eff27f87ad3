"""The options of `fabric submit` and `fabric plan`: what a job asks for, as words of a command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fabric.cli.lazy import Settings
from fabric.cli.session import load
from fabric.errors import UserError

if TYPE_CHECKING:
    from fabric.job_request import JobRequest
    from fabric.jobs import Jobs

F = TypeVar("F", bound=Callable[..., Any])
COMMAND = {"ignore_unknown_options": False, "allow_interspersed_args": False}

_OPTIONS = (
    click.option("-q", "--queue", metavar="QUEUE", help="The queue (default: the setting `queue`)."),
    click.option("--gpus", metavar="WHAT", help="A100:4 (four on one node), A100:4x2 (on each of two), 2-8 (elastic), 4, any."),
    click.option("--any-of", multiple=True, metavar="WHAT", help="Another way to run, as good as the first; may be repeated."),
    click.option("--auto", "is_auto", is_flag=True, help="Any flavor: its profile decides."),
    click.option("--cpus", type=float, metavar="N", help="CPUs of one process.  [default: 1]"),
    click.option("--memory", metavar="SIZE", help="Memory of one process: 20GB."),
    click.option("-p", "--priority", metavar="CLASS", help="A priority class of the policy."),
    click.option("--deadline", metavar="WHEN", help="6h from now, or 2026-11-25T08:00."),
    click.option("--budget", type=float, metavar="USD", help="It is stopped when it has cost so much."),
    click.option("--after", multiple=True, metavar="JOB", help="Wait until this job has succeeded; may be repeated."),
    click.option("--timeout", metavar="TIME", help="The longest that one attempt may run: 2h."),
    click.option("--retries", type=int, metavar="N", help="How often it is tried again after a failure.  [default: 0]"),
    click.option("--name", metavar="NAME", help="Its name (default: by the command)."),
    click.option("--family", metavar="NAME", help="Whose history predicts it (default: by the command)."),
    click.option("--tag", multiple=True, metavar="K=V", help="A tag; may be repeated."),
    click.option("--env", multiple=True, metavar="K=V", help="A variable; may be repeated."),
    click.option("--secret", multiple=True, metavar="NAME", help="A variable of yours that is shown nowhere; may be repeated."),
    click.option("--working-dir", metavar="DIR", help="Where it runs (default: here, if a word of the command is a file here)."),
    click.option("--no-working-dir", is_flag=True, help="Run in an empty directory."),
    click.option("--checkpoint-dir", metavar="DIR", help="Kept when it is preempted, and there again for the next attempt."),
    click.option("--grace", metavar="TIME", help="From SIGTERM to SIGKILL.  [default: 30s]"),
    click.option("--form", type=click.Choice(["program", "ray-program"]), help="ray-program: a driver that takes resources by itself."),
    click.option("--no-preempt", is_flag=True, help="Never send it back to its queue for others."),
    click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] COMMAND..."),
)


def job_options(command: F) -> F:
    """All of them, and the command line to run."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def client(settings: Settings) -> Jobs:
    """The job plane that the settings name. Raises: ConfigError."""
    from fabric.jobs import jobs_of

    return jobs_of(load(settings).config, tell=lambda line: click.echo(line, err=True))


def request_of(command: Sequence[str], given: Mapping[str, Any], array: int | None = None, key: str | None = None) -> JobRequest:
    """The request that the words mean; one word alone is a shell command line. Raises: UserError, UnknownNameError."""
    from fabric.job_request import make_request

    options: dict[str, Any] = {to: given[name] for name, to in _AS_THEY_ARE.items() if given[name] is not None}
    options |= {to: list(given[name]) for name, to in _LISTS.items() if given[name]}
    options |= {to: pairs(name, given[name]) for name, to in (("env", "env"), ("tag", "tags")) if given[name]}
    if given["is_auto"]:
        options["resources"] = "auto"
    if given["no_preempt"]:
        options["preemptible"] = False
    if given["no_working_dir"]:
        options["working_dir"] = None
    if key is not None:
        options["idempotency_key"] = key
    return make_request(command[0] if len(command) == 1 else list(command), (), None, array, options)


def pairs(option: str, words: Sequence[str]) -> dict[str, str]:
    """`K=V` words as a mapping. Raises: UserError (`bad_env`, `bad_tag`)."""
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise UserError(f"--{option} {word!r} is not K=V", code=f"bad_{option}", hint=f"--{option} NAME=value")
        found[name] = value
    return found


_SAME = (
    "queue", "gpus", "cpus", "memory", "priority", "deadline", "timeout", "name", "family",
    "working_dir", "checkpoint_dir", "grace", "form",
)  # fmt: skip
_AS_THEY_ARE = {**dict(zip(_SAME, _SAME, strict=True)), "budget": "budget_usd", "retries": "max_retries"}
_LISTS = {"any_of": "any_of", "after": "after", "secret": "secrets"}
