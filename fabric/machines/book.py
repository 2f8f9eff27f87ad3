"""Which machine of a cluster is used as what: the head's own record, read and written by the node provider and by launches.

The autoscaler thinks in instances that come and go; here they are machines that are taken and given back. An instance's name is the
machine's address and a number that is never used again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

BOOK = "~/.tierfabric/machines.json"
FIRST_REST_S = 20.0
LONGEST_REST_S = 600.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One machine in use, or resting after it failed. `state`: `starting`, `running`, `stopping` or `failed`; `since_s`, `rests_until_s`:
    wall clock. `failures`: in a row; each doubles the rest."""

    host: str
    node_type: str
    instance_id: str
    state: str
    since_s: float
    tags: Mapping[str, str] = field(default_factory=dict)
    failures: int = 0
    rests_until_s: float = 0.0
    reason: str = ""

    @property
    def is_in_use(self) -> bool:
        return self.state != "failed"


class Book:
    """A file with a lock. Every method is one read, or one read and write."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or Path(BOOK).expanduser()

    def entries(self) -> dict[str, Entry]:
        """By host."""
        return self._read()[1]

    def take(self, node_type: str, hosts: Sequence[str], count: int, tags: Mapping[str, str], now_s: float | None = None) -> list[Entry]:
        """Take up to `count` of `hosts` that nobody uses; those that failed lately come last, and not before they have rested."""
        now_s = time.time() if now_s is None else now_s
        with self._writing() as (counter, entries):
            free = [host for host in hosts if host not in entries or (not entries[host].is_in_use and entries[host].rests_until_s <= now_s)]
            free.sort(key=lambda host: entries[host].failures if host in entries else 0)
            for host in free[:count]:
                failures = entries[host].failures if host in entries else 0
                entries[host] = _begun(counter, host, node_type, tags, now_s, failures)
            return [entries[host] for host in free[:count]]

    def claim(self, wanted: Mapping[str, str], tags: Mapping[str, Mapping[str, str]]) -> dict[str, Entry]:
        """For a launch: the entries of these hosts (host -> node type), taken now where nobody uses them."""
        with self._writing() as (counter, entries):
            for host, node_type in wanted.items():
                if host not in entries or not entries[host].is_in_use:
                    entries[host] = _begun(counter, host, node_type, tags.get(node_type, {}), time.time())
            return {host: entries[host] for host in wanted}

    def settle(self, host: str, state: str, reason: str = "") -> None:
        """A start came to its end. `failed`: the machine rests, longer each time, and is free then."""
        with self._writing() as (_, entries):
            if (entry := entries.get(host)) is None:
                return
            if state != "failed":
                entries[host] = replace(entry, state=state, since_s=time.time(), failures=0 if state == "running" else entry.failures)
                return
            rest_s = min(FIRST_REST_S * 2**entry.failures, LONGEST_REST_S)
            entries[host] = replace(
                entry, state="failed", since_s=time.time(), failures=entry.failures + 1, rests_until_s=time.time() + rest_s, reason=reason
            )

    def tag(self, host: str, tags: Mapping[str, str]) -> None:
        with self._writing() as (_, entries):
            if (entry := entries.get(host)) is not None:
                entries[host] = replace(entry, tags={**entry.tags, **tags})

    def forget(self, host: str) -> None:
        """The machine is free."""
        with self._writing() as (_, entries):
            entries.pop(host, None)

    def clear(self) -> None:
        with self._writing() as (_, entries):
            entries.clear()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[list[int], dict[str, Entry]]]:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            counter, entries = self._read()
            box = [counter]
            yield box, entries
            draft = self._path.with_suffix(".new")
            plain = {"counter": box[0], "machines": {host: asdict(entry) for host, entry in entries.items()}}
            draft.write_text(json.dumps(plain, indent=1), encoding="utf-8")
            draft.replace(self._path)

    def _read(self) -> tuple[int, dict[str, Entry]]:
        try:
            plain = json.loads(self._path.read_text(encoding="utf-8"))
            return int(plain["counter"]), {host: Entry(**entry) for host, entry in plain["machines"].items()}
        except FileNotFoundError:
            return 0, {}
        except (ValueError, TypeError, KeyError, AttributeError):
            # Made anew from what the autoscaler sees; a counter from the clock repeats no name.
            return int(time.time()), {}


def _begun(counter: list[int], host: str, node_type: str, tags: Mapping[str, str], now_s: float, failures: int = 0) -> Entry:
    """A start under a name of its own."""
    counter[0] += 1
    return Entry(host, node_type, f"{host}-{counter[0]}", "starting", now_s, dict(tags), failures)
