"""What it costs to ship the journal, how far behind its copy is, and how long a new head takes to have it back.

A journal of 100,000 jobs that ended, written as the scheduler writes it; then single commits at a steady pace, in rounds, with and
without a process that ships. By default to the same disk, so that its fsyncs and the journal's compete, as they would not with a store
elsewhere. A commit has arrived when a whole object of the store has it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from fabric.config import FabricConfig, ShippingConfig
from fabric.events import NodeCordoned
from fabric.job import Grant, JobSpec, LaunchSpec, Option
from fabric.job_events import JobDispatched, JobEnded, JobStarted, JobSubmitted
from fabric.journal import Batch, Journal
from fabric.shipping.bring_back import bring_back
from fabric.shipping.keeper import Keeper
from fabric.shipping.piece import Label, unpack
from fabric.shipping.places import Places
from fabric.show import table

sys.path.insert(0, str(Path(__file__).parents[1] / "scheduling"))
from journal import STREAM, some_jobs

GOALS = {"commit_ratio": "<= 1.05", "lag_p95_s": "<= 2", "bytes_per_commit": "<= 20,000", "restore_s": "<= 10"}
WARM_COMMITS = 20
START_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3, help="each once with and once without")
    parser.add_argument("--commits", type=int, default=400, help="in each half of a round")
    parser.add_argument("--pace", type=float, default=0.02, help="seconds between commits")
    parser.add_argument("--dir", default=None, help="where the journal goes; default: the temporary directory")
    parser.add_argument("--store", default=None, help="where the store goes, such as another disk; default: beside the journal")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as folder, tempfile.TemporaryDirectory(dir=args.store or args.dir) as store:
        figures = measured(Path(folder), Path(store), args.jobs, args.rounds, args.commits, args.pace)
    if args.json:
        print(json.dumps(figures))
    else:
        rows = [[name, f"{value:.4g}" if isinstance(value, float) else str(value), GOALS.get(name, "")] for name, value in figures.items()]
        print(table(["figure", "measured", "goal"], rows, right=(1, 2)))


def measured(folder: Path, store: Path, num_jobs: int, rounds: int, commits: int, pace_s: float) -> dict[str, Any]:
    config = FabricConfig(name="bench", state_dir=folder / "state", storage_url=f"file://{store}", shipping=ShippingConfig())
    journal = Journal(config.database_url)
    fill(journal, num_jobs)
    Journal(config.profiles_url).close()
    alone: list[float] = []
    beside: list[float] = []
    ratios: list[float] = []
    lags: list[float] = []
    bytes_per_commit: list[float] = []
    first_copy_s: list[float] = []
    for number in range(rounds):
        without = [took_s for _, _, took_s in paced(journal, commits, pace_s)]
        began_s = time.monotonic()
        with shipping(config, number + 1) as keeper:
            first_copy_s.append(time.monotonic() - began_s)
            before = shipped(keeper)
            made = paced(journal, commits, pace_s)
            wait_until_quiet(keeper)
            bytes_per_commit.append((shipped(keeper) - before) / (commits + WARM_COMMITS))
            lags += arrivals(config, made)
        with_it = [took_s for _, _, took_s in made]
        ratios.append(median(with_it) / median(without))
        alone, beside = alone + without, beside + with_it
    last = journal.last_seq(STREAM)
    journal.close()
    journal_mb = (config.state_path / "journal.db").stat().st_size / 1e6
    store_mb = sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) / 1e6
    shutil.rmtree(config.state_path)
    began_s = time.monotonic()
    bring_back(config, watch_s=0.0)
    restore_s = time.monotonic() - began_s
    again = Journal(config.database_url)
    assert again.last_seq(STREAM) == last, "not what was committed"
    again.close()
    return {
        "commit_ratio": median(ratios),
        "commit_ratio_p99": percentile(beside, 0.99) / percentile(alone, 0.99),
        "commit_ms_p50": 1e3 * median(beside),
        "commit_alone_ms_p50": 1e3 * median(alone),
        "commit_ms_p99": 1e3 * percentile(beside, 0.99),
        "commit_alone_ms_p99": 1e3 * percentile(alone, 0.99),
        "lag_p50_s": median(lags),
        "lag_p95_s": percentile(lags, 0.95),
        "lag_max_s": max(lags),
        "bytes_per_commit": median(bytes_per_commit),
        "restore_s": restore_s,
        "first_copy_s": median(first_copy_s),
        "journal_mb": journal_mb,
        "store_mb": store_mb,
        "jobs": num_jobs,
        "commits": rounds * commits,
    }


def fill(journal: Journal, num_jobs: int) -> None:
    """Jobs that were submitted, started and ended, each with its launch document and an idempotency key."""
    how = LaunchSpec("program", "python train.py --epochs 10", working_dir="sha256-" + 64 * "a", env={"OMP_NUM_THREADS": "4"})
    specs, _ = some_jobs(num_jobs)
    for start in range(0, num_jobs, 500):
        journal.write([batch_of(spec, how) for spec in specs[start : start + 500]])


def batch_of(spec: JobSpec, how: LaunchSpec) -> Batch:
    grant = Grant(Option(0, "a100-80g", 1, 1.0, 0.5), ("node-1",))
    facts = (
        JobSubmitted(spec, spec.user),
        JobDispatched(spec.job_id, 1, grant, "Fit", "3 of 4 free"),
        JobStarted(spec.job_id, 1, ("node-1",)),
        JobEnded(spec.job_id, 1, "ok"),
    )
    return Batch(STREAM, facts, {spec.job_id: how}, key=f"key-{spec.job_id}", stands_for=spec.job_id)


def paced(journal: Journal, commits: int, pace_s: float) -> list[tuple[str, float, float]]:
    """(what it wrote, when it was on disk by the wall clock, how long it took) of each commit, some before left out."""
    made = []
    due_s = time.monotonic()
    for _ in range(commits + WARM_COMMITS):
        due_s += pace_s
        time.sleep(max(0.0, due_s - time.monotonic()))
        name = uuid.uuid4().hex
        began_s = time.perf_counter()
        journal.append(STREAM, NodeCordoned(name, "bench"))
        made.append((name, time.time(), time.perf_counter() - began_s))
    return made[WARM_COMMITS:]


@contextmanager
def shipping(config: FabricConfig, epoch: int) -> Iterator[Keeper]:
    keeper = Keeper(config, epoch)
    keeper.start()
    until_s = time.monotonic() + START_S
    while state_of(keeper) != "shipping":
        if time.monotonic() > until_s:
            raise TimeoutError(str(keeper.status()))
        time.sleep(0.1)
    try:
        yield keeper
    finally:
        keeper.close()


def journal_status(keeper: Keeper) -> dict[str, Any]:
    status = keeper.status() or {}
    found: dict[str, Any] = status.get("databases", {}).get("journal", {})
    return found


def state_of(keeper: Keeper) -> str:
    return str(journal_status(keeper).get("state"))


def shipped(keeper: Keeper) -> int:
    return int(journal_status(keeper)["bytes"])


def wait_until_quiet(keeper: Keeper) -> None:
    last = -1
    while last != (last := shipped(keeper)):
        time.sleep(3.0)


def arrivals(config: FabricConfig, made: list[tuple[str, float, float]]) -> list[float]:
    """How long after each commit the first object with it was whole. Raises: AssertionError where one is in none."""
    root, places = Path(config.storage.removeprefix("file://")), Places(config.name, "journal")
    keys = [str(file.relative_to(root)) for file in (root / places.top).rglob("change/*")]
    newest = max(base.timeline for base in places.bases(keys))
    objects = []
    for base in places.bases(keys):
        for change in sorted(base.changes) if base.timeline == newest else ():
            label = Label(base.timeline, base.number, change=change)
            file = root / places.key(label)
            objects.append((file.stat().st_mtime, b"".join(unpack(file.read_bytes(), label, str(file)).pages.values())))
    lags, at = [], 0
    for name, committed_s, _ in made:
        while name.encode() not in objects[at][1]:
            at += 1
        lags.append(objects[at][0] - committed_s)
    return lags


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


if __name__ == "__main__":
    main()
