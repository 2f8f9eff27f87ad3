"""What the cold start is measured with: a model of 256 MiB, proof that nobody holds it, and a page cache warm or cold."""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
from pathlib import Path

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from serve_apps.parking.page_cache import populate

NAME = "big"
PATH = f"/v2/models/{NAME}/infer"
WIDTH = 4096
NUM_LAYERS = 4
"""4 matrices of 4096 x 4096 float32: 256 MiB."""
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, WIDTH], "datatype": "FP32", "data": [0.5] * WIDTH}]}).encode()


def write_model(path: Path) -> Path:
    """`x: float32[batch, 4096]` to `y: float32[batch, 4096]` through four matrix products, weights inside the file."""
    rng = numpy.random.default_rng(0)
    weights = [(rng.standard_normal((WIDTH, WIDTH), dtype=numpy.float32) / WIDTH**0.5) for _ in range(NUM_LAYERS)]
    names = ["x", *(f"h{i}" for i in range(1, NUM_LAYERS)), "y"]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(NUM_LAYERS)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "layers", ends[:1], ends[1:], [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def holders(folder: Path) -> list[int]:
    """The processes that have a file of `folder` mapped or open."""
    wanted = str(folder)
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):  # no process, ended meanwhile, or another user's
            pid = int(process.name)
            opened = [str(each.readlink()) for each in (process / "fd").iterdir()]
            if any(name.startswith(wanted) for name in opened) or wanted in (process / "maps").read_text(errors="replace"):
                found.append(pid)
    return found


def private_bytes(pid: int) -> int:
    """Pages of no file that the process has, its copies of its parent's included."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    return 0


def warm(folder: Path) -> None:
    """Bring the weights that a first answer reads into the page cache."""
    for file in folder.rglob("mapped.bin"):
        populate(file)


def cool(folder: Path) -> None:
    """Take all weights of `folder` out of the page cache. Raises: SystemExit where the kernel keeps more than 1 % of a file."""
    for file in folder.rglob("*.bin"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if resident_frac(file) > 0.01:
            raise SystemExit(f"{file} stays in the page cache")


def resident_frac(file: Path) -> float:
    """The share of a file that is in the page cache."""
    size = file.stat().st_size
    if size == 0:
        return 0.0
    pages = numpy.zeros(-(-size // mmap.PAGESIZE), numpy.uint8)
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), size, prot=mmap.PROT_READ) as mapped:
        view = numpy.frombuffer(mapped, numpy.uint8)
        start = view.ctypes.data
        del view  # a mapping that is looked at cannot be closed
        ctypes.CDLL(None).mincore(ctypes.c_void_p(start), ctypes.c_size_t(size), ctypes.c_void_p(pages.ctypes.data))
    return float((pages & 1).mean())
