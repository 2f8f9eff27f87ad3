"""What the journal takes: restoring 100,000 jobs from a snapshot and the tail behind it, and appends beside a bare fsync."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from fabric import codec, columns
from fabric.job import Form, Grant, JobId, JobSpec, LaunchSpec, Option, Shape
from fabric.job_events import JOURNALLED, JobDispatched, JobEnded, JobFact, JobStarted, JobSubmitted
from fabric.journal import Batch, Committer, Journal
from fabric.show import table
from fabric.states import JobState

STREAM = "jobs"
FORMS: tuple[Form, ...] = ("program", "program", "program", "callable", "ray-program")
FLAVORS = ("a100-80g", "v100-16g", "t4", "cpu-avx512")


@dataclass(slots=True)
class JobRow:
    """What a scheduler knows of a job beside its spec."""

    state: JobState
    attempt: int = 0
    work_done: float = 0.0
    usage_usd: float = 0.0
    held: Option | None = None
    nodes: tuple[str, ...] = ()
    since_s: float = 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--tail", type=int, default=10_000, help="facts behind the snapshot")
    parser.add_argument("--dir", default=None, help="where the database goes; default: the temporary directory")
    parser.add_argument("--restore", metavar="URL", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.restore:
        restore_and_tell(args.restore)
        return
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        figures = {
            **restoring(Path(folder), args.jobs, args.tail, args.rounds),
            **appending(Path(folder), args.rounds),
            **one_fact(args.rounds),
        }
    goals = {"restore_s": "<= 2", "submits_per_s": ">= 2000", "append_ms_p50": "<= fsync + 5"}
    if args.json:
        print(json.dumps(figures))
    else:
        rows = [[name, f"{value:.4g}" if isinstance(value, float) else str(value), goals.get(name, "")] for name, value in figures.items()]
        print(table(["figure", "measured", "goal"], rows, right=(1, 2)))


def job_id(rng: random.Random, at_s: float) -> JobId:
    """As a UUIDv7: the time, then chance."""
    digits = f"{int(at_s * 1000):012x}7{rng.getrandbits(12):03x}{0x8 | rng.getrandbits(2):x}{rng.getrandbits(60):015x}"
    return JobId(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")


def some_jobs(count: int, seed: int = 0) -> tuple[list[JobSpec], list[JobRow]]:
    """Specs and states as a busy month leaves them: 200 users, 40 queues, 2,000 families, a fifth with `after`."""
    rng = random.Random(seed)
    specs: list[JobSpec] = []
    rows: list[JobRow] = []
    at_s = 1.76e9
    for number in range(count):
        at_s += rng.expovariate(0.05)
        gpus = rng.choice((0, 1, 1, 1, 2, 4, 8))
        shape = Shape(rng.choice(("", "a100", "hot")), gpus, 4.0 * max(1, gpus), rng.choice((0, 16, 64)) << 30, rng.choice((1, 1, 1, 2, 4)))
        shapes = (shape,) if rng.random() < 0.8 else (shape, Shape("v100", 2 * gpus, shape.cpus, shape.memory_bytes))
        family = f"family-{rng.randrange(2000)}"
        spec = JobSpec(
            job_id=job_id(rng, at_s),
            name=f"{family}-{number}",
            user=f"user-{rng.randrange(200)}",
            queue=f"queue-{rng.randrange(40)}",
            priority=rng.choice(("default", "production", "research")),
            form=rng.choice(FORMS),
            shapes=shapes,
            family=family,
            submitted_s=at_s,
            deadline_s=at_s + rng.choice((3600.0, 21600.0)) if rng.random() < 0.3 else None,
            budget_usd=rng.choice((5.0, 40.0)) if rng.random() < 0.2 else None,
            after=(rng.choice(specs).job_id,) if specs and rng.random() < 0.2 else (),
            timeout_s=7200.0,
            max_retries=rng.randrange(4),
            can_resume=rng.random() < 0.5,
            tags={"team": f"team-{rng.randrange(30)}", "run": str(rng.randrange(1000))} if rng.random() < 0.5 else {},
        )
        specs.append(spec)
        rows.append(a_row(rng, at_s))
    return specs, rows


def a_row(rng: random.Random, at_s: float) -> JobRow:
    state = rng.choices(tuple(JobState), weights=(40, 1, 9, 1, 40, 6, 3))[0]
    if state == JobState.PENDING:
        return JobRow(state, since_s=at_s)
    is_held = state in (JobState.ADMITTED, JobState.RUNNING, JobState.PREEMPTING)
    held = Option(0, rng.choice(FLAVORS), rng.choice((1, 1, 2, 4)), 4.0, rng.random()) if is_held else None
    nodes = tuple(f"node-{rng.randrange(1000)}" for _ in range(held.num_bundles)) if held else ()
    return JobRow(state, rng.randrange(1, 4), 1e4 * rng.random(), 50 * rng.random(), held, nodes, at_s + 100 * rng.random())


def a_tail(specs: list[JobSpec], count: int) -> list[JobFact]:
    """Facts behind the snapshot: a third each of submissions, dispatches and starts."""
    rng = random.Random(1)
    new, _ = some_jobs(count // 3 + 1, seed=2)
    facts: list[JobFact] = []
    for spec in new:
        other = rng.choice(specs).job_id
        grant = Grant(Option(0, rng.choice(FLAVORS), 1, 1.0, rng.random()), ("node-1",))
        facts += [JobSubmitted(spec, spec.user), JobDispatched(other, 1, grant, "Fit", "3 of 4 free"), JobStarted(other, 1, ("node-1",))]
    return facts[:count]


def restoring(folder: Path, num_jobs: int, num_tail: int, rounds: int) -> dict[str, Any]:
    url = f"sqlite:///{folder / 'restore.db'}"
    specs, rows = some_jobs(num_jobs)
    journal = Journal(url)
    seq = journal.append_all(STREAM, [JobEnded(specs[0].job_id, 1, "ok")]).seq
    num_bytes = sum(len(chunk) for part in (specs, rows) for chunk in columns.pack(part))

    def snapshot() -> None:
        journal.save_snapshot(STREAM, seq, (chunk for part in (specs, rows) for chunk in columns.pack(part)))

    snapshot_s = timed(snapshot, rounds)
    journal.append_all(STREAM, a_tail(specs, num_tail))
    journal.close()
    # Each time in a new process, as a scheduler starts; it prints a digest of what it holds.
    command = [sys.executable, __file__, "--restore", url]
    runs = [json.loads(subprocess.run(command, check=True, capture_output=True, timeout=300).stdout) for _ in range(rounds)]
    expected = digest(specs, rows)
    assert all(run["digest"] == expected and run["tail_facts"] == num_tail for run in runs), "not what was written"
    return {
        "jobs": num_jobs,
        "tail_facts": num_tail,
        "restore_s": median([run["restore_s"] for run in runs]),
        "restore_cpu_s": median([run["restore_cpu_s"] for run in runs]),
        "restored_mb": median([run["restored_mb"] for run in runs]),
        "snapshot_s": snapshot_s,
        "snapshot_mb": num_bytes / 1e6,
    }


def restore_and_tell(url: str) -> None:
    before_bytes = psutil.Process().memory_info().rss
    started_s, started_cpu_s = time.perf_counter(), time.process_time()
    specs, rows, tail = restore_all(url)
    restore_s, restore_cpu_s = time.perf_counter() - started_s, time.process_time() - started_cpu_s
    grown_bytes = psutil.Process().memory_info().rss - before_bytes
    told = {"restore_s": restore_s, "restore_cpu_s": restore_cpu_s, "restored_mb": grown_bytes / 1e6}
    print(json.dumps({**told, "tail_facts": len(tail), "digest": digest(specs, rows)}))


def digest(specs: list[JobSpec], rows: list[JobRow]) -> str:
    seen = hashlib.sha256()
    for value in (*specs, *rows):
        seen.update(repr(value).encode())
    return seen.hexdigest()


def restore_all(url: str) -> tuple[list[JobSpec], list[JobRow], list[Any]]:
    """As a scheduler does that starts anew: open, snapshot, tail."""
    journal = Journal(url)
    found = journal.load_snapshot(STREAM)
    assert found is not None
    seq, chunks = found
    parts = columns.unpack_all({"JobSpec": JobSpec, "JobRow": JobRow}, chunks)
    tail = [codec.fact_of(JOURNALLED, kind, body) for kind, body in journal.replay(STREAM, after_seq=seq)]
    journal.close()
    return parts["JobSpec"], parts["JobRow"], tail


def appending(folder: Path, rounds: int) -> dict[str, Any]:
    """In turns, so that a busy disk hits all: a bare fsync, one append, hundreds of submissions, and 64 threads at once."""
    journal = Journal(f"sqlite:///{folder / 'append.db'}")
    specs, _ = some_jobs(1000)
    submissions = [JobSubmitted(spec, spec.user) for spec in specs]
    fsyncs: list[float] = []
    appends: list[float] = []
    rates: dict[str, list[float]] = {"appends_per_s": [], "submits_per_s": [], "threads_64_commits_per_s": []}
    with (folder / "bare").open("wb") as bare:
        for _ in range(rounds):
            fsyncs += [timed(lambda: synced(bare), 1) for _ in range(40)]
            appends += [timed(lambda: journal.append(STREAM, submissions[0]), 1) for _ in range(40)]
            rates["appends_per_s"].append(1000 / timed(lambda: in_hundreds(journal, submissions), 1))
            rates["submits_per_s"].append(1000 / timed(lambda: submit_hundreds(journal, specs), 1))
            rates["threads_64_commits_per_s"].append(1920 / timed(lambda: from_threads(journal, submissions, 64, 30), 1))
    journal.close()
    return {
        "fsync_ms_p50": 1e3 * median(fsyncs),
        "append_ms_p50": 1e3 * median(appends),
        **{name: median(values) for name, values in rates.items()},
    }


def synced(file: Any) -> None:
    """What a small commit appends to SQLite's log, at the least."""
    file.write(b"x" * 4096)
    file.flush()
    os.fsync(file.fileno())


def in_hundreds(journal: Journal, facts: list[JobSubmitted]) -> None:
    for start in range(0, len(facts), 100):
        journal.append_all(STREAM, facts[start : start + 100])


def submit_hundreds(journal: Journal, specs: list[JobSpec]) -> None:
    """The facts with a launch document and a new idempotency key each."""
    how = LaunchSpec("program", "python train.py --epochs 10", working_dir="sha256-" + 64 * "a", env={"OMP_NUM_THREADS": "4"})
    for start in range(0, len(specs), 100):
        journal.write(
            [
                Batch(STREAM, (JobSubmitted(s, s.user),), {s.job_id: how}, key=f"{s.name}-{time.perf_counter_ns()}", stands_for=s.job_id)
                for s in specs[start : start + 100]
            ]
        )


def from_threads(journal: Journal, facts: list[JobSubmitted], num_threads: int, commits: int) -> None:
    committer = Committer(journal)

    def work(number: int) -> None:
        for index in range(commits):
            committer.commit(STREAM, facts[number + index : number + index + 1])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    committer.close()


def one_fact(rounds: int) -> dict[str, float]:
    """Microseconds for one submission to JSON and back."""
    spec = next(spec for spec in some_jobs(100)[0] if len(spec.shapes) == 1)
    fact = JobSubmitted(spec, spec.user)
    text = codec.dumps(fact)

    def many(once: Callable[[], object]) -> float:
        return timed(lambda: [once() for _ in range(2000)], rounds) / 2000 * 1e6

    return {"encode_us": many(lambda: codec.dumps(fact)), "decode_us": many(lambda: codec.decode(JobSubmitted, codec.loads(text)))}


def timed(call: Callable[[], object], rounds: int) -> float:
    """Median seconds."""
    times = []
    for _ in range(rounds):
        started_s = time.perf_counter()
        call()
        times.append(time.perf_counter() - started_s)
    return median(times)


if __name__ == "__main__":
    main()
