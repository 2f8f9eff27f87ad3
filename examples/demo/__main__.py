"""`make demo`: a fabric up, mixed CV and NLP work on real input, a model served over HTTP, the fabric down.

    python -m examples.demo [--images DIR] [--texts DIR]     (DIR: one sub-folder per label)

The result also goes to build/demo.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import socket
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fabric
from examples.demo.images import LabelledData, load_images
from examples.demo.models import accuracy, train_image_classifier, train_text_classifier
from examples.demo.texts import load_texts
from fabric.errors import FabricError
from fabric.show import duration, table, usd

Labels = NDArray[np.int64]
BATCH = 32
HERE = Path(__file__).parent
RESULT = Path("build/demo.json")


def main() -> int:
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=Path, help="a folder of images, one sub-folder per label")
    parser.add_argument("--texts", type=Path, help="a folder of text files, one sub-folder per label")
    args = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="fabric-demo-") as folder:
            result = run(args, Path(folder))
    except FabricError as error:
        print(error.render(), file=sys.stderr)
        return error.exit_status
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"\nwritten to {RESULT}")
    return 0 if result["http_ok"] and not result["errors"] else 1


def run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    with ThreadPoolExecutor() as pool, step("a twin fabric up (three tiers on this machine), the input read meanwhile"):
        images = load_images(args.images)
        later_texts = pool.submit(load_texts, args.texts)
        connect(folder)
        texts = later_texts.result()
    print(f"  images: {images.describe()}\n  texts:  {texts.describe()}")
    with step("both models trained and exported to ONNX"):
        train_image_classifier(images, folder / "images.onnx")
        train_text_classifier(texts, folder / "texts.onnx")
    with step("the mixed load run"):
        image_labels, text_labels, errors = classify(images, texts, folder)
    cv = accuracy(image_labels[images.test], images, images.test)
    nlp = accuracy(text_labels[texts.test], texts, texts.test)
    print(f"  held-out accuracy: images {cv:.3f}, texts {nlp:.3f}; errors: {errors}\n")
    by_tier = report()
    with step("the text model served over HTTP and called"):
        http_ok = serve(folder / "texts.onnx", texts, text_labels)
    with step("the fabric down"):
        fabric.disconnect()
    return {
        "images": len(images.items),
        "texts": len(texts.items),
        "errors": errors,
        "cv_accuracy": round(cv, 4),
        "nlp_accuracy": round(nlp, 4),
        "by_tier": by_tier,
        "http_ok": http_ok,
        "twin": True,
    }


@contextmanager
def step(label: str) -> Any:
    """Says what is done, and how long it took."""
    print(f"… {label}", flush=True)
    started_s = time.perf_counter()
    yield
    print(f"✓ {label}: {duration(time.perf_counter() - started_s)}", flush=True)


def connect(folder: Path) -> None:
    from fabric.config import load_config

    config = load_config(HERE / "fabric.yaml", flags={"state_dir": str(folder / "state")}).config
    fabric.connect(config=config)


def classify(images: LabelledData, texts: LabelledData, folder: Path) -> tuple[Labels, Labels, int]:
    """Both loads at once; label positions in the items' order, and the number of failed batches."""
    import ray

    from examples.demo.work import classify_images, classify_texts

    image_model, text_model = (ray.put((folder / name).read_bytes()) for name in ("images.onnx", "texts.onnx"))
    pixels = images.items.reshape(len(images.items), -1)
    image_batches = [(pixels[i : i + BATCH], image_model) for i in range(0, len(pixels), BATCH)]
    text_batches = [(texts.items[i : i + BATCH], text_model) for i in range(0, len(texts.items), BATCH)]
    with ThreadPoolExecutor(2) as pool:
        loads = [
            pool.submit(task.map, batches, return_exceptions=True, progress=False)
            for task, batches in ((classify_images, image_batches), (classify_texts, text_batches))
        ]
        image_parts, text_parts = (load.result() for load in loads)
    failed = [part for part in (*image_parts, *text_parts) if isinstance(part, BaseException)]
    for error in failed[:3]:
        print(f"  failed: {type(error).__name__}: {error}", file=sys.stderr)
    return flat(image_parts, len(images.items)), flat(text_parts, len(texts.items)), len(failed)


def flat(parts: Sequence[Any], num_items: int) -> Labels:
    """Label positions of all items, in order; -1 for those of a failed batch."""
    labels = np.full(num_items, -1)
    for index, part in enumerate(parts):
        if not isinstance(part, BaseException):
            labels[index * BATCH : index * BATCH + len(part)] = part
    return labels


def report() -> dict[str, dict[str, float]]:
    """Print where everything ran and why; returns the figures per tier."""
    from examples.demo.work import classify_images, classify_texts
    from fabric.explanation import WORDS
    from fabric.recall import explain_all

    time.sleep(1.0)  # the workers report twice a second
    rows, reasons, runs = [], Counter[str](), {}
    for task in (classify_images, classify_texts):
        calls = explain_all(task)
        reasons.update(call.route.reason for call in calls)
        for tier in ("hot", "warm", "cold"):
            there = [call for call in calls if call.route.chosen.tier == tier]
            seen = [call.as_json()["measured"] for call in there if call.measured is not None]
            runs.setdefault(tier, []).extend(seen)
            if there:
                rows.append([task.name, tier, there[0].route.chosen.flavor + " twin", str(len(there)), *figures(seen)])
    print(table(["task", "tier", "flavor", "calls", "p50", "cost"], rows, right=(3, 4, 5)))
    for reason, count in reasons.most_common():
        print(f"  {count:4} × {reason}: {WORDS[reason]}")
    print("\nthe last text batch, explained:\n")
    print(calls[-1], "\n")
    return {tier: summary(seen) for tier, seen in runs.items()}


def figures(seen: Sequence[dict[str, Any]]) -> tuple[str, str]:
    totals = summary(seen)
    return duration(totals["p50_ms"] / 1e3), usd(totals["cost_usd"])


def summary(seen: Sequence[dict[str, Any]]) -> dict[str, float]:
    p50_ms = 1e3 * statistics.median([run["run_s"] for run in seen]) if seen else 0.0
    return {"tasks": len(seen), "p50_ms": round(p50_ms, 3), "cost_usd": sum(run["cost_usd"] or 0.0 for run in seen)}


def _free_port() -> int:
    """One that is free with the next, which gRPC takes; below those that Linux gives to outgoing connections at any moment."""
    while True:
        port = random.randrange(20_000, 32_000, 2)
        with suppress(OSError), socket.socket() as http, socket.socket() as grpc:
            http.bind(("127.0.0.1", port))
            grpc.bind(("127.0.0.1", port + 1))
            return port


def serve(model: Path, texts: LabelledData, expected: Labels) -> bool:
    """Deploy the text model, send it ten held-out texts over HTTP; whether it answers as the tasks did."""
    from examples.demo.work import TextClassifier

    service = TextClassifier(str(model), list(texts.labels))
    service.deploy(replicas=2, port=_free_port())
    asked, answers = texts.test[:: max(1, len(texts.test) // 10)][:10], []
    for index in asked:
        body = json.dumps({"input_text": texts.items[index]}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{service.url}/predict", body), timeout=30) as reply:
            answers.append(json.load(reply)["result"]["label"])
    print(f"  POST {service.url}/predict -> {answers[:3]} …")
    service.delete()
    return answers == [texts.labels[expected[index]] for index in asked]


if __name__ == "__main__":
    sys.exit(main())
