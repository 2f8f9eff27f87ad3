"""What N replicas of a 256 MiB ONNX model on one node weigh, and whether sharing its weights costs speed.

Copies and speed are measured in plain processes that hold the model as a replica does; the weight of a whole replica on a running fabric
and, in the same run, on plain Ray Serve with onnxruntime's defaults. Memory is the proportional set size (PSS), in which a page that
several processes map counts once in all.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper
from peers.venv import DEFAULT_VENVS
from weights_process import Workers, pss_bytes
from weights_replicas import Replicas, bytes_per_replica
from weights_worker import WIDTH

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import median, report

GOALS = {"pss_copies": "<= 1.2", "throughput_ratio": ">= 0.95", "replicas_per_gib_ratio": ">= 1.4"}
_LAYERS = 4
_BATCHES = (1, 8)
_WINDOW_S = 3.0
_GIB = 2**30


def main() -> None:
    args = parsed()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        model, cache = write(Path(folder) / "big.onnx"), Path(folder) / "cache"
        figures |= in_processes(model, cache, args.replicas, args.rounds)
        if not args.no_ray:
            figures |= on_ray(model, args.replicas, args.venvs)
    report(figures, GOALS, as_json=args.json)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--replicas", type=int, default=8)
    parser.add_argument("--no-ray", action="store_true", help="without the figures that need a fabric and a Ray Serve")
    parser.add_argument("--venvs", type=Path, default=DEFAULT_VENVS, help="where the peers' environments are kept")
    return parser.parse_args()


def write(path: Path) -> Path:
    """Four products with 4096 x 4096 weights of float32: 256 MiB."""
    rng = numpy.random.default_rng(0)
    weights = [rng.standard_normal((WIDTH, WIDTH), dtype=numpy.float32) / WIDTH**0.5 for _ in range(_LAYERS)]
    names = ["x", *[f"h{layer}" for layer in range(1, _LAYERS)], "y"]
    nodes = [helper.make_node("MatMul", [names[layer], f"w{layer}"], [names[layer + 1]]) for layer in range(_LAYERS)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in "xy")
    graph = helper.make_graph(nodes, "big", [x], [y], [numpy_helper.from_array(each, f"w{place}") for place, each in enumerate(weights)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def in_processes(model: Path, cache: Path, num: int, rounds: int) -> dict[str, float]:
    weights_bytes = _LAYERS * WIDTH * WIDTH * 4
    rates: dict[str, dict[int, list[float]]] = {form: {batch: [] for batch in _BATCHES} for form in ("shared", "unshared")}
    with Workers("none", num, model, cache) as empty:
        empty_bytes = pss_bytes(empty.pids)
    with Workers("shared", num, model, cache) as shared, Workers("unshared", num, model, cache) as unshared:
        for _ in range(rounds):
            for batch in _BATCHES:
                # One after the other: each has the whole machine in its turn.
                rates["shared"][batch].append(shared.rows_per_s(batch, _WINDOW_S))
                rates["unshared"][batch].append(unshared.rows_per_s(batch, _WINDOW_S))
        ratios = {
            batch: median([ours / theirs for ours, theirs in zip(rates["shared"][batch], rates["unshared"][batch], strict=True)])
            for batch in _BATCHES
        }
        unshared_bytes = pss_bytes(unshared.pids)
        unshared.__exit__()
        # Alone, as the libraries that the others map as well would count for less beside them.
        shared_bytes = pss_bytes(shared.pids)
    return {
        "pss_copies": (shared_bytes - empty_bytes) / weights_bytes,
        "throughput_ratio": min(ratios.values()),
        **{f"throughput_ratio_batch_{batch}": ratio for batch, ratio in ratios.items()},
        **{f"rows_per_s_{form}_batch_{batch}": median(seen) for form, each in rates.items() for batch, seen in each.items()},
        "pss_copies_unshared": (unshared_bytes - empty_bytes) / weights_bytes,
        "replicas": num,
    }


def on_ray(model: Path, num: int, venvs: Path) -> dict[str, float]:
    ours, theirs = (bytes_per_replica(Replicas(name, model, num), venvs) for name in ("ours", "ray_serve"))
    return {
        "replicas_per_gib_ratio": theirs / ours,
        "replicas_per_gib": _GIB / ours,
        "replicas_per_gib_ray_serve": _GIB / theirs,
    }


if __name__ == "__main__":
    main()
