"""`fabric profile`: what a model, a callable or a script needs, how fast it runs on each flavor, and what that costs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fabric.cli.lazy import FabricCommand, Settings
from fabric.cli.session import address_option, emit, joined, load, output_option, ray_bound
from fabric.errors import UserError, nearest_hint

if TYPE_CHECKING:
    from fabric.config import FabricConfig
    from fabric.profiling.known import Stored
    from fabric.profiling.target import Target

_SHAPE = re.compile(r"([\w.:/-]+?)=(\d+(?:[x,]\d+)*)(?::(\w+))?")
_TENSOR_DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
_DTYPES = ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8")


@click.command(cls=FabricCommand)
@click.argument("target", metavar="TARGET")
@click.argument("script_args", metavar="[-- ARGS]", nargs=-1)
@click.option(
    "--args",
    "call_args",
    metavar="JSON|MODULE:FUNCTION",
    default="",
    help="Arguments of a callable: a list, an object by name, or what makes them.",
)
@click.option(
    "--shape", "shapes", metavar="INPUT=1x3x224x224", multiple=True, help="Shape of a model's input; `:int64` behind it sets its type."
)
@click.option(
    "--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Size of a model's first dimension where it is open."
)
@click.option("--dtype", type=click.Choice(_DTYPES), help="Predict as if the model ran in this precision.")
@click.option(
    "--cpus", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of the measured run, and vCPUs of CPU flavors."
)
@click.option("--run/--no-run", "is_run", default=True, help="Run it here, or only look at it.")
@click.option(
    "--repeat", type=click.IntRange(min=0), default=0, help="Runs to measure (default: as many as 2 s allow; one of what takes over 1 s)."
)
@click.option("--timeout", metavar="DURATION", default="60s", show_default=True, help="Kill the measured run at this cap.")
@click.option("--domain", type=click.Choice(("cv", "nlp", "tabular", "other")), help="Declare the domain; it wins over what is seen.")
@click.option("--phase", type=click.Choice(("training", "inference")), help="Declare the phase.")
@click.option("--trust", "is_trusted", is_flag=True, help="Load a PyTorch file that may run code as it is loaded.")
@click.option("--all", "is_all", is_flag=True, help="All flavors of the catalogue, also where a fabric runs.")
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Draw the roofline into this file (.png, .svg or .pdf).")
@address_option
@output_option
@click.pass_obj
def profile(
    settings: Settings,
    /,
    target: str,
    script_args: tuple[str, ...],
    shapes: tuple[str, ...],
    timeout: str,
    is_all: bool,
    png: Path | None,
    address: str | None,
    output: str,
    **given: Any,
) -> None:
    """What TARGET needs, how fast it runs on each flavor, and what that costs.

    TARGET is a model (.onnx, .pt, .pth, .pt2), a script (.py, its arguments behind --), a callable (module:function) or the name of
    a task that the fabric has run. Models, callables and scripts run here, in a process of their own that is killed at its cap;
    no fabric is needed. Where one runs, what it has measured of a callable's task counts too, and it keeps the task's FLOPs.
    """
    from fabric.durations import parse_duration
    from fabric.profiling.findings import Order
    from fabric.profiling.report import format_report
    from fabric.profiling.target import read_target

    if png is not None:
        from fabric.profiling.picture import check_picture

        check_picture(png)
    found = read_target(target)
    if script_args and found.kind != "script":
        raise UserError("only a script takes arguments behind its name", code="bad_arguments", hint="those of a callable: --args '[…]'")
    config = load(settings).config
    sizes, dtypes = _shapes(shapes)
    order = Order(
        "",
        "",
        "",
        is_run=given["is_run"],
        is_trusted=given["is_trusted"],
        batch=given["batch"],
        num_cpus=given["cpus"],
        repeats=given["repeat"],
        shapes=sizes,
        dtypes=dtypes,
        args=given["call_args"],
        script_args=script_args,
        domain=given["domain"],
        phase=given["phase"],
    )
    with _stored(config, address, found) as stored:
        from fabric.profiling.run import Wish, profile_target

        done = profile_target(found, Wish(order, given["dtype"], parse_duration(timeout), is_all), config, stored)
        if done.counted is not None:
            ray_bound("fabric.profiling.stored").keep(done.counted)
    emit(done.form, output, lambda: format_report(done.form))
    if png is not None:
        from fabric.profiling.picture import draw

        draw(done.form, config, png)
    if done.failure is not None:
        if done.printed.strip():
            click.echo(f"\nthe last that it printed:\n{done.printed.rstrip()}", err=True)
        raise done.failure


def _shapes(given: tuple[str, ...]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Raises: UserError `bad_shape`."""
    shapes, dtypes = {}, {}
    for text in given:
        match = _SHAPE.fullmatch(text)
        if match is None:
            raise UserError(f"--shape {text!r} is not INPUT=SIZExSIZE…", code="bad_shape", hint="for example --shape x=1x3x224x224")
        name, sizes, dtype = match.groups()
        shapes[name] = tuple(int(size) for size in re.split("[x,]", sizes))
        if dtype and dtype not in _TENSOR_DTYPES:
            raise UserError(f"--shape {text!r}: no type {dtype}", code="bad_shape", hint=nearest_hint(dtype, _TENSOR_DTYPES))
        if dtype:
            dtypes[name] = dtype
    return shapes, dtypes


@contextlib.contextmanager
def _stored(config: FabricConfig, address: str | None, target: Target) -> Iterator[Stored | None]:
    """What a fabric knows, where there is one to ask and the target may be a task of it. A task by name needs one."""
    from fabric import twin
    from fabric.config import address_from_environment

    is_there = bool(address or address_from_environment() or twin.running(config))
    if target.kind == "task" or (target.kind == "callable" and is_there):
        stored = ray_bound("fabric.profiling.stored")
        with joined(config, address) as client:
            yield stored.read_stored(client)
    else:
        yield None
