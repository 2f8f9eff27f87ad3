"""One process that holds a model and runs it when told: `weights_worker.py FORM MODEL [CACHE]`, commands on standard input.

FORM is `shared` (prepared in CACHE, and packed), `unshared` (as onnxruntime loads it by default) or `none` (no model, all libraries).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy

from serve_apps.runtimes import LoadOptions
from serve_apps.runtimes.onnx import OnnxRuntime
from serve_apps.runtimes.prepared import prepare
from serve_apps.runtimes.prepared_model import open_prepared

WIDTH = 4096


def loaded(form: str, model: Path, cache: Path) -> Any:
    if form == "unshared":
        return OnnxRuntime.load(model, LoadOptions())
    if form == "shared":
        runtime = open_prepared(prepare(model, cache), swap_after_s=None)
        runtime.infer({"x": numpy.ones((1, WIDTH), numpy.float32)})
        runtime.swap()
        if not runtime.is_packed:
            raise SystemExit("it stays mapped")
        return runtime
    return None


def count_runs(run: Callable[[dict[str, Any]], Any], batch: int, seconds: float) -> float:
    """Rows per second."""
    inputs = {"x": numpy.random.default_rng(0).standard_normal((batch, WIDTH)).astype(numpy.float32)}
    num, started_s = 0, time.perf_counter()
    while (passed_s := time.perf_counter() - started_s) < seconds:
        run(inputs)
        num += batch
    return num / passed_s


def main() -> None:
    form, model, cache = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    runtime = loaded(form, model, cache)
    print("ready", flush=True)
    for line in sys.stdin:
        batch, seconds = line.split()
        print(count_runs(runtime.infer, int(batch), float(seconds)), flush=True)


if __name__ == "__main__":
    main()
