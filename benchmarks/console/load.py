"""What 50 open pages cost: the scheduler's throughput with and without them, and the processor time of the console.

Three processes (a scheduler under full load, the console, the pages) and rounds in turns, each pair in the other order than the last;
medians over the pairs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.measure import median, report

GOALS = {"scheduler_slowdown_frac": "<= 0.02", "server_cpu_cores": "<= 0.25"}


class Process:
    """Answers each line with a JSON object in one line."""

    def __init__(self, module: str, *args: object) -> None:
        command = [sys.executable, "-m", f"benchmarks.console.{module}", *map(str, args)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.told = self._answer()

    def ask(self, line: str = "") -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self._process.args} ended")
        return json.loads(line)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--rounds", type=int, default=8, help="pairs of a round with and one without")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a round")
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=1_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scheduler = Process("load_scheduler", folder, args.jobs, args.nodes)
        console = Process("load_console", folder, args.nodes)
        pages = Process("load_pages", console.told["url"], scheduler.told["token"])
        try:
            figures = measure(scheduler, console, pages, args)
        finally:
            for process in (pages, console, scheduler):
                process.end()
    report(figures, GOALS, as_json=args.json)


def measure(scheduler: Process, console: Process, pages: Process, args: argparse.Namespace) -> dict[str, Any]:
    scheduler.ask("round 3")  # warm
    with_pages, without, cores, idle_cores, events = [], [], [], [], 0
    for number in range(args.rounds):
        for is_open in (True, False) if number % 2 else (False, True):
            if is_open:
                pages.ask(f"open {args.pages}")
                assert console.ask()["pages"] == args.pages
            before_s = console.ask()["cpu_s"]
            done = scheduler.ask(f"round {args.seconds}")
            used = (console.ask()["cpu_s"] - before_s) / args.seconds
            (with_pages if is_open else without).append(done)
            (cores if is_open else idle_cores).append(used)
            if is_open:
                events += sum(pages.ask("close").values())
    return {
        "scheduler_slowdown_frac": median([1 - a["jobs_per_s"] / b["jobs_per_s"] for a, b in zip(with_pages, without, strict=True)]),
        "server_cpu_cores": median(cores),
        "server_cpu_cores_without_pages": median(idle_cores),
        "jobs_per_s": median([done["jobs_per_s"] for done in with_pages]),
        "jobs_per_s_without_pages": median([done["jobs_per_s"] for done in without]),
        "cpu_ms_per_job": median([1e3 * done["cpu_s"] / done["jobs"] for done in with_pages]),
        "cpu_ms_per_job_without_pages": median([1e3 * done["cpu_s"] / done["jobs"] for done in without]),
        "events": events,
        "pages": args.pages,
        "rounds": args.rounds,
        "problem": console.ask()["problem"],
    }


if __name__ == "__main__":
    main()
