"""Parked processes for real: forked, adopting models, leaving, crashing, and outliving nobody."""

from __future__ import annotations

import asyncio
import ctypes
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from fabric.errors import FabricError, UnknownNameError
from serve_apps import ModelService
from serve_apps.directory.table import ReplicaAt
from serve_apps.parking.lot import ParkingLot
from serve_apps.parking.messages import Adoption
from serve_apps.parking.rules import ModelVersion, Rules
from serve_apps.parking.tenant import pss_bytes
from serve_apps.replica_settings import ReplicaSettings
from serve_apps.serve_options import ServeOptions
from serve_apps.source import ServiceSource

UNTIL_S = 90.0
RULES = Rules(num_cpus=2, max_parked=2, linger_s=0.0, drain_s=5.0, backoff_s=0.05)
T = TypeVar("T")


class Tellpid(ModelService):
    def predict(self, x: int) -> int:
        return os.getpid() + 0 * x


class Broken(ModelService):
    def __init__(self, marker: str) -> None:
        Path(marker).write_text("tried")
        raise ValueError("the weights are not there")

    def predict(self, x: int) -> int:
        return x


class StillBorn(ModelService):
    def __init__(self) -> None:
        ctypes.string_at(0)

    def predict(self, x: int) -> int:
        return x


class Fragile(ModelService):
    """Dies of a negative number."""

    def predict(self, x: int) -> int:
        if x < 0:
            ctypes.string_at(0)
        return x + 1


class Patient(ModelService):
    """Says in a FIFO that it has begun, and waits in another until it may end."""

    def __init__(self, begun: str, end: str) -> None:
        self.begun, self.end = begun, end

    def predict(self, x: int) -> int:
        Path(self.begun).write_text("x")
        Path(self.end).read_text()
        return x


class Running:
    """A lot on an event loop of its own, and what it told."""

    def __init__(self, folder: Path, rules: Rules = RULES) -> None:
        self.folder = folder
        self.log = folder / "parked.log"
        self.models: dict[str, Adoption] = {}
        self.gone: list[tuple[str, str]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.lot = ParkingLot(
            self._find, log_file=self.log, rules=rules, on_gone=lambda model, _at, why: self.gone.append((model.name, why))
        )
        self._loop.call_soon_threadsafe(self.lot.start)
        self.until(lambda: len(self.lot.parked_pids) == rules.max_parked)

    def serve(self, name: str, service: type, *args: Any) -> None:
        settings = ReplicaSettings(name, "1", "", (self.folder / "storage").as_uri(), self.folder, ServeOptions(), num_cpus=1, user="ann")
        self.models[name] = Adoption(settings, ServiceSource.of(service, args, {}, None))

    def wake(self, name: str) -> ReplicaAt:
        return self.run(self.lot.wake(name, "1"))

    def ask(self, name: str, x: int) -> Any:
        """What the model answers to its first or a later request."""
        return ask(self.wake(name), name, x)

    def pid_of(self, name: str) -> int:
        pid = self.lot.pid_of(name, "1")
        assert pid is not None
        return pid

    def drop(self, name: str) -> None:
        self._loop.call_soon_threadsafe(self.lot.drop, name, "1")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(UNTIL_S)

    def until(self, is_so: Callable[[], bool]) -> None:
        try:
            self.run(self.lot.until(is_so))
        except TimeoutError:
            pytest.fail(f"not within {UNTIL_S} s:\n{self.log.read_text()}")

    def close(self) -> None:
        self.run(self.lot.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _note_gone(self, model: ModelVersion, _at: ReplicaAt, why: str) -> None:
        self.gone.append((model.name, why))

    def _find(self, model: ModelVersion) -> Adoption:
        if model.name not in self.models:
            raise UnknownNameError.of("model", model.name, self.models)
        return self.models[model.name]


def ask(at: ReplicaAt, name: str, x: int) -> Any:
    connection = http.client.HTTPConnection(at.host, at.port, timeout=UNTIL_S)
    try:
        connection.request("POST", f"/{name}/predict", json.dumps({"x": x}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = json.loads(answer.read())
    finally:
        connection.close()
    return content["result"] if answer.status == 200 else (answer.status, content)


def wait_for_end(pid: int) -> None:
    """Returns when the process is gone."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([watched], [], [], UNTIL_S)[0], f"{pid} lives on"
    finally:
        os.close(watched)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("lot"))
    yield running
    running.close()


@pytest.fixture
def lot(shared: Running) -> Iterator[Running]:
    """Every CPU is free and a process is parked for each."""
    shared.gone.clear()
    yield shared
    for name in list(shared.models):
        shared.drop(name)
    shared.until(lambda: len(shared.lot.parked_pids) == RULES.max_parked)
    shared.models.clear()


def test_a_request_finds_no_model_and_gets_its_answer_from_a_process_that_adopted_it(lot: Running) -> None:
    parked = lot.lot.parked_pids
    lot.serve("tellpid", Tellpid)
    assert lot.ask("tellpid", 1) in parked
    assert lot.ask("tellpid", 1) == lot.pid_of("tellpid"), "the same process answers the next one"


def test_many_requests_at_once_wake_the_model_once(lot: Running) -> None:
    lot.serve("tellpid", Tellpid)

    async def wake_all() -> set[int]:
        return {at.port for at in await asyncio.gather(*(lot.lot.wake("tellpid", "1") for _ in range(50)))}

    assert len(lot.run(wake_all())) == 1


def test_a_model_that_leaves_ends_its_process_and_another_is_parked(lot: Running) -> None:
    lot.serve("tellpid", Tellpid)
    pid = lot.ask("tellpid", 1)
    lot.drop("tellpid")
    wait_for_end(pid)
    lot.until(lambda: len(lot.lot.parked_pids) == RULES.max_parked)
    assert pid not in lot.lot.parked_pids
    assert lot.ask("tellpid", 1) != pid


def test_a_model_that_leaves_finishes_the_request_that_it_answers(lot: Running, tmp_path: Path) -> None:
    begun, end = tmp_path / "begun", tmp_path / "end"
    os.mkfifo(begun)
    os.mkfifo(end)
    lot.serve("patient", Patient, str(begun), str(end))
    at = lot.wake("patient")
    pid, answers = lot.pid_of("patient"), []
    asking = threading.Thread(target=lambda: answers.append(ask(at, "patient", 7)))
    asking.start()
    begun.read_text()
    lot.drop("patient")
    lot.until(lambda: bool(lot.gone))
    end.write_text("x")
    asking.join(UNTIL_S)
    assert answers == [7]
    wait_for_end(pid)


def test_a_constructor_that_raises_is_the_answer_of_its_request_alone(lot: Running, tmp_path: Path) -> None:
    lot.serve("broken", Broken, str(tmp_path / "tried"))
    lot.serve("tellpid", Tellpid)
    with pytest.raises(FabricError, match="the weights are not there") as caught:
        lot.wake("broken")
    assert caught.value.code == "constructor_failed"
    (tmp_path / "tried").unlink()
    with pytest.raises(FabricError, match="the weights are not there"):
        lot.wake("broken")
    assert not (tmp_path / "tried").exists(), "at once again it is not tried"
    assert lot.ask("tellpid", 1) == lot.pid_of("tellpid")


def test_a_constructor_that_kills_its_process_is_told_with_the_signal(lot: Running) -> None:
    lot.serve("still-born", StillBorn)
    with pytest.raises(FabricError, match="signal 11") as caught:
        lot.wake("still-born")
    assert caught.value.code == "model_crashed"


def test_a_predict_that_kills_its_process_concerns_no_other_model_and_the_next_request_wakes_it_again(lot: Running) -> None:
    lot.serve("fragile", Fragile)
    lot.serve("tellpid", Tellpid)
    other = lot.ask("tellpid", 1)
    at = lot.wake("fragile")
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(at, "fragile", -1)
    lot.until(lambda: bool(lot.gone))
    assert lot.gone == [("fragile", "signal 11 (Segmentation fault)")]
    assert lot.ask("tellpid", 1) == other
    assert lot.ask("fragile", 1) == 2


def test_the_least_recently_used_model_makes_room_for_a_third(lot: Running) -> None:
    for name in "abc":
        lot.serve(name, Tellpid)
    first, second, _ = lot.ask("a", 1), lot.ask("b", 1), lot.until(lambda: len(lot.lot.parked_pids) == 1)
    assert lot.ask("c", 1) not in (first, second)
    assert [name for name, _ in lot.gone] == ["a"]
    wait_for_end(first)


def test_an_unknown_model_wakes_nothing(lot: Running) -> None:
    with pytest.raises(UnknownNameError):
        lot.wake("nobody")
    assert len(lot.lot.parked_pids) == 2


def test_parked_processes_hold_little_memory_and_one_thread_more_than_the_server_needs(lot: Running) -> None:
    for pid in lot.lot.parked_pids:
        assert pss_bytes(pid) < 60 * 2**20
        assert len(list(Path(f"/proc/{pid}/task").iterdir())) <= 3


def test_a_parked_process_that_dies_is_replaced(lot: Running) -> None:
    victim = lot.lot.parked_pids[0]
    os.kill(victim, signal.SIGKILL)
    wait_for_end(victim)
    lot.until(lambda: len(lot.lot.parked_pids) == RULES.max_parked and victim not in lot.lot.parked_pids)


def test_a_zygote_that_dies_takes_its_children_along_and_is_started_again(lot: Running) -> None:
    lot.serve("tellpid", Tellpid)
    adopted, before = lot.ask("tellpid", 1), lot.lot.zygote_pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    wait_for_end(adopted)
    lot.until(lambda: len(lot.lot.parked_pids) >= 1 and lot.lot.zygote_pid != before)
    assert lot.ask("tellpid", 1) != adopted


OWNER = """
import asyncio, sys
from pathlib import Path
from tests.e2e.test_parking import Running, Tellpid
running = Running(Path(sys.argv[1]))
running.serve("tellpid", Tellpid)
print(running.lot.zygote_pid, running.ask("tellpid", 1), *running.lot.parked_pids, flush=True)
sys.stdin.read()
"""


def test_all_processes_die_with_their_owner_however_it_dies(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None and owner.stdin is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) >= 3
    owner.kill()
    owner.wait()
    for pid in pids:
        wait_for_end(pid)
    owner.stdin.close()
    owner.stdout.close()
