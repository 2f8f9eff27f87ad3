"""A fabric's serving without Ray, for rollouts that are timed: the directory, the ingress with its HAProxy, and replicas in processes of
their own, which are the product's. Only Ray Serve is replaced, by `LocalServe`, which starts processes and starts them again when they die.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import pickle
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import IO, Any

from faulty_model import Served

from fabric.artefacts import ArtefactStore
from fabric.config import FabricConfig
from fabric.errors import UnavailableError
from fabric.journal import Journal
from fabric.registry.opened import open_registry
from serve_apps.directory.records import DeployRecord
from serve_apps.directory.requests import AppState, DeployRequest
from serve_apps.directory.shell import DirectoryShell
from serve_apps.directory.table import ServingTable
from serve_apps.ingress.access import Access
from serve_apps.ingress.adoptions import Adoptions
from serve_apps.ingress.settings import IngressSettings
from serve_apps.ingress.shell import IngressShell
from serve_apps.ingress.waker import IngressWaker
from serve_apps.plan import plan_deploy
from serve_apps.replica_settings import settings_for
from serve_apps.rollout.spec import RolloutSpec
from serve_apps.server import bind
from serve_apps.source import ServiceSource, put_source

NAME = "model"
_REPLICA = Path(__file__).with_name("live_replica.py")
_TRIES = 2
_AGAIN_S = 0.3
_START_S = 60.0


class Directories(BaseManager):
    """The directory, for processes."""


@dataclass
class _App:
    settings: bytes
    wanted: int
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    said: dict[int, IO[bytes]] = field(default_factory=dict)
    """What each process wrote to its standard error, by its number."""
    num_failed_starts: int = 0
    why: str = ""


class LocalServe:
    """See `ServePort`: one process for each replica, in place of a Serve application."""

    def __init__(self, config: FabricConfig, address: tuple[str, int], key: bytes) -> None:
        self._config, self._address, self._key = config, address, key
        self._apps: dict[str, _App] = {}
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        threading.Thread(target=self._tend, daemon=True).start()

    def start(self, record: DeployRecord) -> None:
        settings = pickle.dumps(settings_for(record, self._config, is_open=True, host="127.0.0.1"))
        with self._lock:
            app = self._apps.setdefault(record.app, _App(settings, 0))
            app.wanted = int(record.settings["replicas"])
            self._fill(app)

    def state(self, record: DeployRecord) -> AppState:
        with self._lock:
            app = self._apps.get(record.app)
            if app is None:
                return AppState("absent")
            if app.num_failed_starts >= _TRIES:
                return AppState("failed", why=app.why)
            num = sum(process.poll() is None for process in app.processes)
            return AppState("running" if num >= app.wanted else "starting", num)

    def delete(self, record: DeployRecord) -> None:
        with self._lock:
            app = self._apps.pop(record.app, None)
        for process in app.processes if app else ():
            process.terminate()
        for process in app.processes if app else ():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()

    def logs(self, record: DeployRecord, max_lines: int) -> str:
        return ""

    def close(self) -> None:
        self._is_over.set()
        with self._lock:
            for app in self._apps.values():
                for process in app.processes:
                    process.kill()
                    process.wait()

    def _fill(self, app: _App) -> None:
        while len(app.processes) > app.wanted:
            app.processes.pop().terminate()
        while len(app.processes) < app.wanted:
            host, port = self._address
            argv = [sys.executable, str(_REPLICA), host, str(port), self._key.hex(), secrets.token_hex(8)]
            # No pipe: nobody reads while it runs, and a full one would stop it.
            said = tempfile.TemporaryFile()  # noqa: SIM115
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=said)
            assert process.stdin is not None
            process.stdin.write(app.settings)
            process.stdin.close()
            app.processes.append(process)
            app.said[process.pid] = said

    def _tend(self) -> None:
        """What dies is started again, as Serve does; what dies as it starts, `_TRIES` times."""
        while not self._is_over.wait(_AGAIN_S):
            with self._lock:
                for app in self._apps.values():
                    for process in [process for process in app.processes if process.poll() is not None]:
                        app.processes.remove(process)
                        said = app.said.pop(process.pid)
                        if process.returncode == 3:  # its constructor raised
                            app.num_failed_starts += 1
                            said.seek(0)
                            app.why = said.read().decode(errors="replace")[-500:]
                    if app.num_failed_starts < _TRIES:
                        self._fill(app)


class LiveFabric:
    """`url`: of the REST server. Ends with the `with`."""

    def __init__(self, folder: Path) -> None:
        self.config = FabricConfig(state_dir=str(folder))
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        key = secrets.token_bytes(16)
        Directories.register("directory", callable=lambda: self)
        server = Directories(("127.0.0.1", 0), key).get_server()
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.serve = LocalServe(self.config, server.address, key)  # type: ignore[arg-type]
        self.shell = DirectoryShell(self.config, lambda config: Journal(config.database_url), open_registry, self.serve)
        self.store = ArtefactStore(self.config.storage)
        ports = [_free_port(), _free_port()]
        settings = IngressSettings("127.0.0.1", *ports, folder / "ingress", is_open=True, user="bench")
        self.ingress = IngressShell(settings, self, self._waker)
        self.url = settings.url

    def __enter__(self) -> LiveFabric:
        return self

    def __exit__(self, *_: object) -> None:
        self.serve.close()
        self.ask(_cancelled(), 5.0)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def ask(self, work: Any, timeout_s: float = 60.0) -> Any:
        """The answer of one of the directory's methods, from any thread. Raises: UnavailableError once this has ended."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)
        except concurrent.futures.CancelledError:
            raise UnavailableError("the directory has ended") from None

    def deploy(self, fault: str, *, replicas: int = 1, rollout: RolloutSpec | None = None) -> DeployRecord:
        """A version of the model with a planted fault; without a rollout it is waited for."""
        plan = plan_deploy(Served, name=NAME, replicas=replicas, num_cpus=0.1, max_concurrency=16, max_queued=500)
        source = put_source(ServiceSource.of(Served, (fault,), {}, None), self.store)
        place = {"kind": "cpu", "flavor": "cpu", "tier": "cold"}
        spec = None if rollout is None else rollout.as_json()
        record: DeployRecord = self.ask(self.shell.deploy(DeployRequest(NAME, "bench", plan.as_settings(), source, place, rollout=spec)))
        if rollout is None:
            self.until(lambda: self.ask(self.shell.deployment(NAME, record.key)).state == "ready", _START_S)
            self.ingress.applied(self.ask(self.shell.table_after(-1, 0.0)).seq, 10.0)
        return record

    def rollout(self) -> dict[str, Any]:
        (shown,) = self.ask(self.shell.rollouts(NAME))
        return shown  # type: ignore[no-any-return]

    def until(self, is_so: Callable[[], bool], timeout_s: float) -> None:
        """Raises: TimeoutError."""
        end_s = time.monotonic() + timeout_s
        while not is_so():
            if time.monotonic() > end_s:
                raise TimeoutError
            time.sleep(0.05)

    # What replicas and the ingress ask of the directory.

    def beat(self, report: Any, tokens_mark: str) -> Any:
        return self.ask(self.shell.beat(report, tokens_mark))

    def leave(self, replica_id: Any) -> None:
        self.ask(self.shell.leave(replica_id))

    def table_after(self, seq: int, timeout_s: float) -> ServingTable:
        return self.ask(self.shell.table_after(seq, timeout_s))  # type: ignore[no-any-return]

    def tokens_after(self, mark: str) -> Any:
        return self.ask(self.shell.tokens_after(mark))

    def feedback(self, told: Any) -> None:
        self.ask(self.shell.feedback(told))

    def deployment(self, name: str, key: str) -> DeployRecord:
        return self.ask(self.shell.deployment(name, key))  # type: ignore[no-any-return]

    def _waker(self, settings: IngressSettings, access: Access) -> IngressWaker:
        adoptions = Adoptions(self.config, access, is_open=True, record_of=self.deployment)
        return IngressWaker(adoptions, access, self, lambda record, timeout_s: None, None)


@contextlib.contextmanager
def live_fabric(folder: Path) -> Iterator[LiveFabric]:
    with LiveFabric(folder) as fabric:
        yield fabric


async def _cancelled() -> None:
    """The directory's loops end before the process does."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


def _free_port() -> int:
    listener = bind("127.0.0.1")
    port = int(listener.getsockname()[1])
    listener.close()
    return port
