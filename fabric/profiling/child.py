"""The process that looks at a target and runs it: `python -m fabric.profiling.child ORDER`, a file of JSON.

Whatever the target does (hang, crash, take all memory, print) happens here. Each finding is appended to the order's file as
soon as it is known, one JSON object a line, so that what was found before a probe was killed is kept.
"""

from __future__ import annotations

import ast
import json
import os
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fabric.codec import decode, dumps, loads
from fabric.errors import FabricError, ModelError, RuntimeFault, UserError, nearest_hint
from fabric.profiling.findings import Measured, Order, Problem
from fabric.sizes import input_bytes
from fabric.types import Fingerprint
from profiler.fingerprint import fingerprint, fingerprint_model
from profiler.model_facts import ModelFacts, Tensor, cause_of

_WARM_RUNS = 1
_MOST_RUNS = 200
_LIBRARIES = ("torch", "tensorflow", "jax", "cupy", "cuml", "onnxruntime", "tensorrt", "vllm")
_ONE_RUN_S = 1.0
"""A callable that takes as long is run once: it may train, write or pay for something."""


def main(order_path: str) -> int:
    order = decode(Order, loads(Path(order_path).read_bytes()))
    try:
        {"onnx": _onnx, "torch": _torch, "callable": _callable, "script": _script}[order.kind](order)
    except FabricError as error:
        traceback.print_exc()
        tell(order, problem=Problem(type(error).__name__, error.code, error.message, error.hint))
        return 1
    except MemoryError:
        tell(order, measured=Measured("oom", peak_memory_bytes=_peak_bytes(), problem="MemoryError", num_cpus=order.num_cpus))
        return 1
    return 0


def tell(order: Order, **findings: Any) -> None:
    """Append findings by the names of `Findings`' fields."""
    with Path(order.found).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({name: json.loads(dumps(value))}) + "\n" for name, value in findings.items())


def _judge(order: Order, facts: ModelFacts) -> None:
    seen: Fingerprint = fingerprint_model(facts.sight, domain=order.domain, phase=order.phase)
    tell(order, fingerprint=seen, facts=facts)


# -- models ----------------------------------------------------------------------------------------------------------------


def _onnx(order: Order) -> None:
    from profiler.onnx_model import read_onnx

    path = Path(order.name)
    try:
        facts = read_onnx(path, batch=order.batch, shapes=order.shapes)
    except UserError as error:
        if error.code != "missing_package":
            raise
        facts = _session_facts(order, f"{error.message}: {error.hint}")
    _judge(order, facts)
    if facts.cost is not None:
        tell(order, cost=facts.cost)
    if order.is_run:
        base_bytes = _peak_bytes()
        try:
            session = _session(order)
        except ModelError as error:
            if facts.cost is None and not facts.num_parameters:
                raise
            # The file is a model, and what it needs is not here: all but the time is known.
            problem = f"it cannot be run here: {cause_of(error.__cause__ or error)}"
            tell(order, measured=Measured("error", problem=problem, num_cpus=order.num_cpus))
            return
        feed = {tensor.name: _example(tensor) for tensor in facts.inputs}
        _measure(order, lambda: session.run(None, feed), base_bytes)


def _session(order: Order) -> Any:
    import onnxruntime

    from profiler.model_facts import unreadable

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = order.num_cpus, 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(order.name, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no public root
        raise unreadable(Path(order.name), error) from error


def _session_facts(order: Order, why: str) -> ModelFacts:
    """What ONNX Runtime alone knows of a model: its inputs."""
    from profiler.model_facts import Sight, assumptions, bound_shape

    assumed: dict[str, str] = {}
    inputs = []
    for node in _session(order).get_inputs():
        dtype = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(string)": "str"}.get(node.type, node.type[7:-1])
        shape = bound_shape(node.name, dtype, tuple(node.shape), batch=order.batch, given=order.shapes, assumed=assumed)
        inputs.append(Tensor(node.name, dtype, shape))
    return ModelFacts("onnx", tuple(inputs), None, None, Sight(inputs=tuple(inputs)), (), (why, *assumptions(assumed)))


def _example(tensor: Tensor) -> Any:
    """Values that a model of this input takes: noise in 0..1, ids and masks of 1, a sentence."""
    import numpy as np

    if tensor.dtype == "str":
        return np.full(tensor.shape, "the quick brown fox jumps over the lazy dog")
    if tensor.dtype.startswith("float"):
        return np.random.default_rng(0).random(tensor.shape, dtype=np.float32).astype(tensor.dtype)
    return np.ones(tensor.shape, dtype=tensor.dtype)


def _torch(order: Order) -> None:
    from dataclasses import replace

    from profiler.torch_model import counted, example_inputs, import_torch, load_torch, weights_facts

    torch = import_torch()
    torch.set_num_threads(order.num_cpus)
    base_bytes = _peak_bytes()
    module, weights = load_torch(Path(order.name), is_trusted=order.is_trusted)
    facts = weights_facts(module, weights)
    if module is None:
        _judge(order, facts)
        return
    if not order.shapes and not order.is_run:
        _judge(order, replace(facts, notes=(*facts.notes, "FLOPs are counted once shapes are given (--shape)")))
        return
    tensors, given = example_inputs(module, order.shapes, order.dtypes)
    _judge(order, replace(facts, inputs=tensors, sight=replace(facts.sight, inputs=tensors)))
    with torch.no_grad():
        cost = counted(lambda: module(*given))
        if cost is not None:
            held_bytes = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
            tell(order, cost=replace(cost, weights_bytes=held_bytes))
        if order.is_run:
            _measure(order, lambda: module(*given), base_bytes)


# -- callables and scripts -------------------------------------------------------------------------------------------------


def _callable(order: Order) -> None:
    base_bytes = _peak_bytes()
    fn = _imported(order.name)
    args, kwargs = _arguments(order, fn)
    # A task of the fabric is its function: it runs here, without Ray.
    plain = getattr(fn, "__wrapped__", fn)
    domain, phase = order.domain or getattr(fn, "domain", None), order.phase or getattr(fn, "phase", None)
    tell(
        order,
        fingerprint=fingerprint(plain, args, kwargs, domain=domain, phase=phase),
        task_name=getattr(fn, "name", "") or plain.__qualname__,
        task_key=getattr(fn, "key", "") if hasattr(fn, "__wrapped__") else "",
        input_bytes=input_bytes(args, kwargs),
    )
    if not order.is_run:
        return
    _check_bound(order, plain, args, kwargs)
    walls_s = _measure(order, lambda: plain(*args, **kwargs), base_bytes)
    tell(order, library=next((name for name in _LIBRARIES if name in sys.modules), ""))
    if "torch" in sys.modules and walls_s[0] < _ONE_RUN_S:  # counting is one run more
        from profiler.torch_model import counted

        cost = counted(lambda: plain(*args, **kwargs))
        if cost is not None:
            tell(order, cost=cost)


def _imported(name: str) -> Any:
    """Raises: UserError `missing_package`, `unknown_target`, `import_failed`."""
    import importlib

    module_name, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        package = str(error.name or "").partition(".")[0]
        if module_name == error.name or module_name.startswith(f"{error.name}."):
            hint = "it is looked for in the present directory and among what is installed"
            raise UserError(f"there is no module {error.name}", code="unknown_target", hint=hint) from error
        hint = f"pip install {package}, or run fabric from the environment that has it"
        raise UserError(f"{module_name} needs the package {package}", code="missing_package", hint=hint, package=package) from error
    except Exception as error:
        raise UserError(f"importing {module_name} failed: {_last_line(error)}", code="import_failed", hint="--debug shows where") from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            known = [key for key, value in getattr(found, "__dict__", {}).items() if callable(value) and not key.startswith("_")]
            raise UserError(f"{module_name} has no {part}", code="unknown_target", hint=nearest_hint(part, known))
        found = getattr(found, part)
    if not callable(found):
        raise UserError(
            f"{name} is a {type(found).__name__}, not a callable", code="unknown_target", hint="name a function or a class of it"
        )
    return found


def _arguments(order: Order, fn: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Raises: UserError `bad_arguments`."""
    text = order.args.strip()
    if not text:
        return (), {}
    if text[0] not in "[{":
        made = _imported(text)()
        return (made if type(made) is tuple else (made,)), {}
    try:
        given = json.loads(text)
    except ValueError as error:
        hint = "a list (positional) or an object (by name), or module:function that returns a tuple of arguments"
        raise UserError(f"--args is not JSON: {error}", code="bad_arguments", hint=hint) from error
    return ((), given) if type(given) is dict else (tuple(given), {})


def _check_bound(order: Order, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    import inspect

    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return  # a C function does not say
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        hint = f"{order.name.partition(':')[2]}{signature}: give them with --args '[…]' or --args module:function; --no-run only looks"
        raise UserError(f"{order.name}: {error}", code="bad_arguments", hint=hint) from error


def _script(order: Order) -> None:
    """Its source is looked at, never imported; then it is run as a program of its own."""
    from types import FunctionType

    path = Path(order.name)
    try:
        tree = ast.parse(path.read_bytes(), str(path))
        code = compile(tree, str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path} is no Python: {_last_line(error)}", code="unreadable_script") from error
    imported = {name.partition(".")[0] for node in ast.walk(tree) for name in _imports(node)}
    tell(order, library=next((name for name in _LIBRARIES if name in imported), ""))
    looked_at = FunctionType(code, {"__name__": "__main__"}, path.stem)
    looked_at.__module__ = str(path.stem)
    tell(order, fingerprint=fingerprint(looked_at, (), {}, domain=order.domain, phase=order.phase))
    if order.is_run:
        tell(order, measured=_run_script(order))


def _imports(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def _run_script(order: Order) -> Measured:
    import subprocess
    import threading

    import psutil

    started_s = time.perf_counter()
    process = subprocess.Popen([sys.executable, order.name, *order.script_args])
    tree, ended = psutil.Process(process.pid), threading.Event()
    peaks = [0]

    def watch() -> None:
        while not ended.wait(0.02):
            sizes = []
            for part in (tree, *_living(tree)):
                with _suppressed(psutil.Error):
                    sizes.append(part.memory_info().rss)
            peaks[0] = max(peaks[0], sum(sizes))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started_s
    ended.set()
    watcher.join()
    code = os.waitstatus_to_exitcode(status)
    peak_bytes = max(peaks[0], usage.ru_maxrss * 1024)
    problem = "" if code == 0 else f"it ended with exit code {code}" if code > 0 else f"it was ended by signal {-code}"
    cpu_s = usage.ru_utime + usage.ru_stime
    return Measured(
        "ok" if code == 0 else "error", (wall_s,) if code == 0 else (), cpu_s, peak_bytes, num_cpus=order.num_cpus, problem=problem
    )


def _living(tree: Any) -> list[Any]:
    import psutil

    try:
        return list(tree.children(recursive=True))
    except psutil.Error:
        return []


# -- measuring -------------------------------------------------------------------------------------------------------------


def _measure(order: Order, call: Callable[[], Any], base_bytes: int) -> list[float]:
    """Time the call, as often as there is room for; seconds of every run. Raises: RuntimeFault `probe_failed`; MemoryError."""
    walls_s: list[float] = []
    cpus_s: list[float] = []
    began_s = time.perf_counter()
    try:
        while _is_more(order, walls_s, time.perf_counter() - began_s):
            cpu_s, wall_s = time.process_time(), time.perf_counter()
            call()
            _wait_for_device()
            walls_s.append(time.perf_counter() - wall_s)
            cpus_s.append(time.process_time() - cpu_s)
    except MemoryError:
        raise
    except Exception as error:
        if type(error).__name__ in ("OutOfMemoryError", "_ArrayMemoryError"):
            raise MemoryError from error
        if isinstance(error, ModuleNotFoundError):
            hint = f"pip install {str(error.name).partition('.')[0]}, or run fabric from the environment that has it"
            raise UserError(f"{order.name} needs the package {error.name}", code="missing_package", hint=hint) from error
        hint = "other inputs: --args or --shape; --no-run only looks"
        raise RuntimeFault(f"{order.name} raised {_last_line(error)}", code="probe_failed", hint=hint) from error
    kept = slice(_WARM_RUNS if len(walls_s) > _WARM_RUNS + 2 else 0, None)
    device, device_bytes = _device()
    tell(
        order,
        measured=Measured(
            "ok",
            tuple(walls_s[kept]),
            statistics.median(cpus_s[kept]),
            _peak_bytes(),
            base_bytes,
            device,
            device_bytes,
            order.num_cpus,
        ),
    )
    return walls_s


def _is_more(order: Order, walls_s: list[float], gone_s: float) -> bool:
    if order.repeats:
        return len(walls_s) < order.repeats
    if order.kind == "callable" and walls_s and walls_s[0] >= _ONE_RUN_S:
        return False
    return not walls_s or (len(walls_s) < _MOST_RUNS and gone_s < order.seconds_s)


def _wait_for_device() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _device() -> tuple[str, int | None]:
    """(name, peak bytes) of the GPU that torch code used, if it used one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.max_memory_allocated():
        return "", None
    return str(torch.cuda.get_device_name()), int(torch.cuda.max_memory_reserved())


def _peak_bytes() -> int:
    """The most resident memory that this process had. Linux's own mark starts anew with the program; `ru_maxrss` does not."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _last_line(error: BaseException) -> str:
    return " ".join(traceback.format_exception_only(error)[-1].split())[:300]


def _suppressed(*kinds: type[BaseException]) -> Any:
    from contextlib import suppress

    return suppress(*kinds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
