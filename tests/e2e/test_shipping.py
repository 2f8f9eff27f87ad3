"""The process that ships, beside others that write: killed at any moment, ended with its scheduler, seen by it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fabric.api.intake import Intake
from fabric.api.schema import SubmitRequest
from fabric.api.tokens import Principal
from fabric.artefacts import ArtefactStore
from fabric.config import FabricConfig, ShippingConfig
from fabric.errors import FabricError
from fabric.job import JobId
from fabric.plane.restore import reconcile
from fabric.registry.opened import open_registry
from fabric.registry.version import By, ModelFile, NewVersion
from fabric.shipping.bring_back import bring_back
from fabric.shipping.copy import make_database
from fabric.shipping.keeper import Keeper, settings_of
from fabric.shipping.opened import open_journal
from fabric.shipping.owner import read_owner
from fabric.shipping.places import Places
from fabric.states import JobState
from tests.local_plane import POLICY, LocalPlane

ROOT = Path(__file__).parents[3]
UNTIL_S = 60.0
NUM_ACCOUNTS = 300
# Each transaction moves money between accounts, and counts itself: what is not of one moment does not add up.
WRITER = """
import os, random, sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
database.execute("PRAGMA synchronous=OFF")
dice = random.Random(int(sys.argv[2]))
for _ in range(int(sys.argv[3])):
    database.execute("BEGIN IMMEDIATE")
    number = database.execute("SELECT count(*) FROM log").fetchone()[0] + 1
    database.execute("INSERT INTO log VALUES (?, ?)", (number, os.urandom(dice.choice((10, 300, 9000)))))
    for _ in range(dice.choice((1, 4, 40))):
        one, other, much = dice.randrange(300), dice.randrange(300), dice.randrange(9)
        database.execute("UPDATE account SET money = money - ? WHERE k = ?", (much, one))
        database.execute("UPDATE account SET money = money + ? WHERE k = ?", (much, other))
    database.execute("ROLLBACK" if dice.random() < 0.1 else "COMMIT")
    if dice.random() < 0.2:
        time.sleep(0.01)
"""


@pytest.fixture
def config(tmp_path: Path) -> FabricConfig:
    made = FabricConfig(
        name="lab", state_dir=tmp_path / "state", storage_url=f"file://{tmp_path}/elsewhere", shipping=ShippingConfig(interval_s=0.1)
    )
    made.state_path.mkdir()
    for name in ("journal.db", "profiles.db"):
        with contextlib.closing(sqlite3.connect(made.state_path / name, isolation_level=None)) as database:
            database.executescript("PRAGMA journal_mode=WAL; CREATE TABLE account (k INTEGER PRIMARY KEY, money, pad)")
            database.execute("CREATE TABLE log (number INTEGER PRIMARY KEY, content)")
            database.execute("BEGIN")
            database.executemany("INSERT INTO account VALUES (?, 100, ?)", [(k, os.urandom(500)) for k in range(NUM_ACCOUNTS)])
            database.execute("COMMIT")
    return made


def writers(config: FabricConfig, count: int, transactions: int) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", WRITER, str(config.state_path / "journal.db")]
    return [subprocess.Popen([*command, str(seed), str(transactions)]) for seed in range(count)]


def checked(file: Path) -> int:
    """How many transactions a database has, where it adds up."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT sum(money) FROM account").fetchone() == (100 * NUM_ACCOUNTS,)
        last, count = database.execute("SELECT coalesce(max(number), 0), count(*) FROM log").fetchone()
    assert last == count
    return int(count)


def until(what: Callable[[], bool]) -> None:
    until_s = time.monotonic() + UNTIL_S
    while not what():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def started(config: FabricConfig, epoch: int = 1) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "fabric.shipping.process"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({**settings_of(config, epoch), "id": "me"}) + "\n")
    process.stdin.flush()
    return process


def ended(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(UNTIL_S) == 0


def the_copy(config: FabricConfig, folder: Path) -> int | None:
    """How many transactions the store has; None: no whole copy yet."""
    target = folder / "copy.db"
    target.unlink(missing_ok=True)
    store = ArtefactStore(config.storage)
    return checked(target) if make_database(store, Places("lab", "journal"), target) else None


def test_beside_three_writers_every_prefix_is_sound_and_the_end_is_the_same(config: FabricConfig, tmp_path: Path) -> None:
    shipping = started(config)
    at_work = writers(config, 3, 400)
    assert [process.wait(UNTIL_S) for process in at_work] == [0, 0, 0]
    ended(shipping)
    count = checked(config.state_path / "journal.db")
    assert 900 < count < 1200
    assert the_copy(config, tmp_path) == count
    store, places = ArtefactStore(config.storage), Places("lab", "journal")
    owner = read_owner(store, "lab")
    assert owner is not None and owner.is_done
    bases = places.bases(entry.key for entry in store.entries(places.top))
    assert len({base.timeline for base in bases}) == 1, "no commit was missed: nothing had to begin anew"
    changes = sorted((label, base) for base in bases for label in base.changes)
    seen = []
    for number, _ in random.Random(0).sample(changes, min(12, len(changes))):
        # As if shipping had ended with this change.
        cut = tmp_path / "cut"
        shutil.rmtree(cut, ignore_errors=True)
        shutil.copytree(config.storage.removeprefix("file://"), cut)
        for later, where in changes:
            if later > number:
                (cut / places.base(where.timeline, where.number) / "change" / f"{later:012d}").unlink()
        with contextlib.suppress(FabricError):  # before the first base was whole
            seen.append(the_copy(config.model_copy(update={"storage_url": f"file://{cut}"}), tmp_path))
    assert seen and all(one is not None and 0 <= one <= count for one in seen)


def test_killed_again_and_again_it_leaves_a_copy_that_adds_up(config: FabricConfig, tmp_path: Path) -> None:
    dice = random.Random(7)
    at_work = writers(config, 2, 100_000)
    counts: list[int | None] = []
    try:
        for _ in range(5):
            shipping = started(config)
            word = dice.choice(("copying", '"shipping"'))
            assert any(word in line for line in shipping.stdout or ())
            time.sleep(dice.random() / 2)
            shipping.send_signal(signal.SIGKILL)
            shipping.wait()
            counts.append(the_copy(config, tmp_path))
    finally:
        for process in at_work:
            process.kill()
            process.wait()
    known = [count for count in counts if count is not None]
    assert known
    assert known == sorted(known), "a later timeline never has less"
    shipping = started(config)
    until(lambda: the_copy(config, tmp_path) == checked(config.state_path / "journal.db"))
    ended(shipping)


def test_the_writers_file_is_sound_after_all_that(config: FabricConfig) -> None:
    """Killed beside writers that are killed, too: SQLite recovers as if nobody had read along."""
    for epoch in range(1, 5):
        shipping, at_work = started(config, epoch), writers(config, 2, 100_000)
        time.sleep(0.8)
        for process in (*at_work, shipping):
            process.send_signal(signal.SIGKILL)
            process.wait()
        checked(config.state_path / "journal.db")


def test_beside_writers_that_are_killed_the_copy_is_what_sqlite_makes_of_it(config: FabricConfig, tmp_path: Path) -> None:
    shipping = started(config)
    assert any('"shipping"' in line for line in shipping.stdout or ())
    for _ in range(6):
        at_work = writers(config, 3, 100_000)
        time.sleep(0.6)
        for process in at_work:
            process.kill()
            process.wait()
    count = checked(config.state_path / "journal.db")
    until(lambda: the_copy(config, tmp_path) == count)
    ended(shipping)


# -- a fabric's own state ----------------------------------------------------------------------------------------------------


def run(local: LocalPlane, command: str, **more: Any) -> JobId:
    request = SubmitRequest.model_validate({"command": command, **more})
    who = Principal("ann", frozenset({"submit"}))
    [[made]] = Intake(who, local.plane.catalogue, local.plane.clock.now_s(), lambda _: []).read([request])
    return local.plane.submit([made], "ann")[0]


def test_jobs_policy_and_registry_are_there_when_the_heads_disk_is_not(tmp_path: Path) -> None:
    config = FabricConfig(name="lab", state_dir=tmp_path / "state", storage_url=f"file://{tmp_path}/elsewhere")
    elsewhere = tmp_path / "elsewhere"
    open_journal(config).close()
    local = LocalPlane(config.state_path, store_folder=elsewhere)
    keeper = Keeper(config, local.plane.epoch)
    keeper.start()
    done = [run(local, f"echo {number}", name=f"job-{number}") for number in range(3)]
    failed, kept = run(local, "exit 3"), run(local, "sleep 100", name="long")
    for job_id in (*done, failed):
        assert local.plane.wait(job_id, UNTIL_S).state.is_final
    local.until_running(kept)
    document = {**POLICY, "spec": {"queues": [{"name": "default"}, {"name": "vision", "weight": 2}]}}
    assert local.plane.policy_apply(document, "ann") == 2
    registry = open_registry(config)
    file = ModelFile("model.onnx", local.plane.store.put(b"weights"))
    registry.register("resnet", NewVersion("onnx", (file,), "model.onnx"), By("ann"), now_s=1.0)
    registry.set_aliases("resnet", {"champion": 1}, By("ann"))
    before = {view.id: (view.name, view.state) for view in local.plane.jobs()}
    epoch = local.plane.epoch
    # The machine is gone: what runs there, the scheduler, and the disk. Shipping has had its second.
    until(lambda: states(keeper).get("journal") == "shipping")
    time.sleep(3 * config.shipping.interval_s)
    assert keeper._process is not None
    keeper._closed.set()
    keeper._process.kill()
    local.close()
    shutil.rmtree(config.state_path)

    bring_back(config, watch_s=0.5)
    again = LocalPlane(config.state_path, store_folder=elsewhere)
    try:
        assert {view.id: (view.name, view.state) for view in again.plane.jobs()} == before
        assert again.plane.epoch > epoch + 100_000
        assert again.plane.policy_show()["version"] == 2
        assert again.plane.policy_show()["document"]["spec"] == document["spec"]
        assert [event["kind"] for event in again.plane.story(failed)][-1] == "JobEnded"
        assert open_registry(config).find("resnet", "champion").number == 1
        reconcile(again.plane, again.runner.living(), takeover_s=0.0)
        job = again.plane.core.jobs[kept]
        until(lambda: (job.state, job.attempt) == (JobState.RUNNING, 2))  # what ran there runs here
        assert again.plane.wait(run(again, "echo new"), UNTIL_S).state is JobState.SUCCEEDED
    finally:
        again.plane.cancel(kept, "ann")
        again.plane.wait(kept, UNTIL_S)
        again.close()


# -- the scheduler's side ----------------------------------------------------------------------------------------------------


def states(keeper: Keeper) -> dict[str, Any]:
    status = keeper.status()
    assert status is not None
    return {name: one["state"] for name, one in status["databases"].items()}


def test_the_keeper_starts_it_anew_tells_how_far_it_is_and_lets_it_finish(config: FabricConfig, tmp_path: Path) -> None:
    keeper = Keeper(config, 1)
    keeper.start()
    until(lambda: states(keeper) == {"journal": "shipping", "profiles": "shipping"})
    assert keeper._process is not None
    first = keeper._process
    first.kill()
    until(lambda: keeper._process is not first)
    until(lambda: (keeper.status() or {})["silent_s"] < 0.5 and states(keeper)["journal"] == "shipping")
    with contextlib.closing(sqlite3.connect(config.state_path / "journal.db", isolation_level=None)) as database:
        database.execute("INSERT INTO log VALUES (1, 'the last word')")
    keeper.close()
    assert the_copy(config, tmp_path) == 1
    assert keeper._process.returncode == 0


def test_it_ends_when_its_scheduler_is_killed(config: FabricConfig) -> None:
    code = (
        "import sys, time; from fabric.config import FabricConfig; from fabric.shipping.keeper import Keeper\n"
        f"keeper = Keeper(FabricConfig(name='lab', state_dir={str(config.state_path)!r}, storage_url={config.storage!r}), 1)\n"
        "keeper.start()\n"
        "while not keeper._heard_s: time.sleep(0.01)\n"
        "print(keeper._process.pid, flush=True); time.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as scheduler:
        assert scheduler.stdout is not None
        pid = int(scheduler.stdout.readline())
        scheduler.kill()
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


def test_where_nothing_is_shipped_there_is_no_process(config: FabricConfig) -> None:
    keeper = Keeper(config.model_copy(update={"shipping": ShippingConfig(enabled="never")}), 1)
    keeper.start()
    assert keeper.status() is None
    keeper.close()
