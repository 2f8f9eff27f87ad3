"""What the registry promises of versions, whatever database keeps them."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fabric.artefacts import ArtefactStore
from fabric.errors import FabricError, RejectedError, RuntimeFault, UnavailableError, UnknownNameError, UserError
from fabric.registry.query import Query
from fabric.registry.registry import Registry, nothing_served
from fabric.registry.signature import Signature
from fabric.registry.sql import SqlVersions
from fabric.registry.version import By, ModelFile, NewVersion, digest_of_files
from fabric.tensor_spec import TensorSpec
from tests.unit.registry.conftest import ANN, BOB, OPS, SERVED, Put

ROOT = Path(__file__).parents[3]
WRITER = """
import sys
from fabric.artefacts import ArtefactStore
from fabric.registry.registry import Registry, nothing_served
from fabric.registry.sql import SqlVersions
from fabric.registry.version import By, ModelFile, NewVersion
url, storage, user, count = sys.argv[1:]
store = ArtefactStore(storage)
registry = Registry(SqlVersions(url), store, nothing_served)
file = ModelFile("model.onnx", store.put(b"weights"))
for i in range(int(count)):
    made = registry.register("resnet", NewVersion("onnx", (file,), "model.onnx"), By(user, True), now_s=float(i))
    print(made.number)
"""


def test_versions_count_from_one_and_what_was_registered_is_what_is_found(registry: Registry, put: Put) -> None:
    signature = Signature((TensorSpec("x", "FP32", (-1, 3)),), (TensorSpec("y", "FP32", (-1, 10), True),))
    given = {
        "signature": signature,
        "metadata": {"task": "cv"},
        "metrics": {"accuracy": 0.93},
        "settings": {"replicas": 2},
        "source": "s3://x",
    }
    made = put(now_s=5.0, **given)
    assert (made.ref, made.user, made.created_s, made.size_bytes, made.state) == ("resnet:1", "ann", 5.0, 7, "active")
    assert made.signature == signature and made.metadata == {"task": "cv"} and made.metrics == {"accuracy": 0.93}
    assert made.digest == made.files[0].digest == digest_of_files(made.files)
    assert registry.find("resnet", "1") == made
    assert put().number == 2 and put("bert").number == 1


def test_the_same_bytes_are_stored_once(put: Put, tmp_path: Path) -> None:
    assert put(content=b"same").digest == put(content=b"same").digest
    assert len([file for file in (tmp_path / "storage" / "blobs").rglob("*") if file.is_file()]) == 1


def test_two_processes_that_write_at_once_get_every_number_once(journal_url: str, tmp_path: Path) -> None:
    SqlVersions(journal_url).close()
    count = 200 if journal_url.startswith("sqlite") else 40
    command = [sys.executable, "-c", WRITER, journal_url, f"file://{tmp_path}/storage"]
    writers = [subprocess.Popen([*command, user, str(count)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for user in ("ann", "bob")]
    told = [writer.communicate(timeout=150)[0].split() for writer in writers]
    numbers = [[int(word) for word in words] for words in told]
    assert sorted(numbers[0] + numbers[1]) == list(range(1, 2 * count + 1))
    assert all(each == sorted(each) for each in numbers)


def test_a_number_is_never_given_again(registry: Registry, put: Put) -> None:
    put(), put()
    registry.delete("resnet", 2, ANN)
    assert put().number == 3
    for number in (1, 3):
        registry.delete("resnet", number, ANN)
    assert put().number == 4
    with pytest.raises(UnknownNameError) as raised:
        registry.find("resnet", "2")
    assert raised.value.code == "unknown_version" and "4" in str(raised.value.hint)


def test_a_registration_that_is_sent_again_is_the_same_version(put: Put) -> None:
    assert [put(key="k1").number, put(key="k1").number, put(key="k2").number] == [1, 1, 2]


def test_aliases_move_together_or_not_at_all(registry: Registry, put: Put) -> None:
    put(), put()
    assert registry.set_aliases("resnet", {"champion": 1, "challenger": 2}, ANN).aliases == {"champion": 1, "challenger": 2}
    with pytest.raises(UnknownNameError):
        registry.set_aliases("resnet", {"champion": 2, "challenger": 9}, ANN)
    assert registry.find("resnet", "champion").number == 1
    assert registry.set_aliases("resnet", {"champion": 2, "challenger": None, "never-was": None}, ANN).aliases == {"champion": 2}
    assert registry.find("resnet", "2").aliases == ("champion",)


def test_the_aliases_of_many_models_are_told_at_once(registry: Registry, put: Put) -> None:
    put(), put()
    registry.set_aliases("resnet", {"champion": 1, "challenger": 2}, ANN)
    names = [f"unregistered-{i}" for i in range(500)]
    assert registry.aliases_of([*names, "resnet"]) == {"resnet": {"champion": 1, "challenger": 2}}
    registry.set_aliases("resnet", {"champion": None, "challenger": None}, ANN)
    assert registry.aliases_of(["resnet"]) == {"resnet": {}}


@pytest.mark.parametrize("alias", ["2", "latest", "Champion", "", "a b", "3.1", "x" * 64])
def test_what_cannot_be_an_alias_is_refused(registry: Registry, put: Put, alias: str) -> None:
    put()
    with pytest.raises(UserError) as raised:
        registry.set_aliases("resnet", {alias: 1}, ANN)
    assert raised.value.code == "bad_alias"


def test_latest_passes_over_what_is_deprecated(registry: Registry, put: Put) -> None:
    put(), put()
    registry.mark("resnet", 2, "deprecated", ANN, why="wrong labels")
    assert registry.find("resnet").number == 1
    assert (registry.find("resnet", "2").state, registry.find("resnet", "2").why) == ("deprecated", "wrong labels")
    registry.mark("resnet", 2, "active", ANN)
    assert registry.find("resnet").number == 2


def test_what_is_deployed_or_has_an_alias_is_not_deleted(registry: Registry, put: Put) -> None:
    put(), put()
    registry.set_aliases("resnet", {"champion": 1}, ANN)
    SERVED["resnet"] = {2}
    for number, code in ((1, "version_aliased"), (2, "version_served")):
        with pytest.raises(RejectedError) as raised:
            registry.delete("resnet", number, ANN)
        assert raised.value.code == code and raised.value.hint
    SERVED.clear()
    registry.set_aliases("resnet", {"champion": None}, ANN)
    registry.delete("resnet", 1, ANN)


def test_a_model_is_its_first_users_to_change(registry: Registry, put: Put) -> None:
    put()
    for change in (
        lambda by: put(by=by),
        lambda by: registry.set_aliases("resnet", {"champion": 1}, by),
        lambda by: registry.set_metrics("resnet", 1, {"f1": 0.5}, by),
        lambda by: registry.mark("resnet", 1, "deprecated", by),
    ):
        with pytest.raises(RejectedError) as raised:
            change(BOB)
        assert raised.value.code == "forbidden"
        change(OPS)
    assert registry.model("resnet").user == "ann"


def test_metrics_change_and_a_signature_is_learnt_once(registry: Registry, put: Put) -> None:
    put(metrics={"f1": 0.5, "loss": 2.0})
    assert registry.set_metrics("resnet", 1, {"f1": 0.6, "loss": None, "auc": 0.9}, ANN).metrics == {"f1": 0.6, "auc": 0.9}
    first, second = Signature((TensorSpec("x", "FP32", (1,)),)), Signature()
    assert registry.learn_signature("resnet", 1, first).signature == first
    assert registry.learn_signature("resnet", 1, second).signature == first


def test_a_search_finds_by_words_metadata_framework_state_and_alias(registry: Registry, put: Put) -> None:
    put(metadata={"task": "cv", "dataset": "ImageNet 100%"})
    put(metadata={"task": "cv"})
    put("bert", metadata={"task": "nlp"}, source="s3://models/bert_large.onnx")
    registry.mark("resnet", 2, "deprecated", ANN)
    registry.set_aliases("bert", {"champion": 1}, ANN)

    def found(**query: object) -> list[str]:
        return [version.ref for version in registry.discover(replace(Query(sort="name"), **query)).versions]  # type: ignore[arg-type]

    assert found() == ["bert:1", "resnet:1"]
    assert found(state="any") == ["bert:1", "resnet:2", "resnet:1"]
    assert found(metadata={"task": "cv"}) == ["resnet:1"]
    assert found(metadata={"task": "cv", "dataset": "x"}) == []
    assert found(text="imagenet CV") == ["resnet:1"]
    assert (
        found(text="100%") == ["resnet:1"] and found(text="1%0") == [] and found(text="bert_l") == ["bert:1"] and found(text="bertxl") == []
    )
    assert found(alias="champion") == ["bert:1"] and found(framework="torch") == [] and found(user="bob") == []


@pytest.mark.parametrize("sort", ["created", "-created", "name", "-name", "size", "-size", "metric:f1", "-metric:f1"])
def test_pages_hold_every_version_once_in_order_also_while_others_come_and_go(registry: Registry, put: Put, sort: str) -> None:
    for i in range(7):
        put(("a", "b")[i % 2], b"x" * (i % 3), now_s=float(i // 2), metrics={"f1": float(i % 3)})
    wanted = [version.ref for version in registry.discover(Query(sort=sort)).versions]
    page = registry.discover(Query(sort=sort, limit=2))
    got = [version.ref for version in page.versions]
    registry.delete(page.versions[-1].name, page.versions[-1].number, ANN)  # the row that the cursor holds
    while page.cursor:
        page = registry.discover(Query(sort=sort, limit=2, cursor=page.cursor))
        got += [version.ref for version in page.versions]
    assert got == wanted and len(set(got)) == 7


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (Query(cursor="nonsense"), "bad_cursor"),
        (Query(cursor="W10"), "bad_cursor"),
        (Query(sort="nmae"), "unknown_sort"),
        (Query(state="gone"), "unknown_state"),
        (Query(limit=0), "bad_limit"),
        (Query(text="a\0b"), "bad_text"),
        (Query(name="No"), "bad_name"),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(registry: Registry, query: Query, code: str) -> None:
    with pytest.raises(FabricError) as raised:
        registry.discover(query)
    assert raised.value.code == code


GOOD = NewVersion("onnx", (ModelFile("m.onnx", "0" * 64),), "m.onnx")


@pytest.mark.parametrize(
    ("name", "new", "code"),
    [
        ("Resnet", GOOD, "bad_name"),
        ("x" * 64, GOOD, "bad_name"),
        ("m", replace(GOOD, framework="O N"), "bad_framework"),
        ("m", replace(GOOD, files=()), "bad_files"),
        ("m", replace(GOOD, main="other"), "bad_files"),
        ("m", replace(GOOD, files=(ModelFile("../x", "0" * 64),), main=""), "bad_files"),
        ("m", replace(GOOD, files=(ModelFile("/x", "0" * 64),), main=""), "bad_files"),
        ("m", replace(GOOD, files=(ModelFile("a", "0" * 64), ModelFile("a/b", "0" * 64)), main=""), "bad_files"),
        ("m", replace(GOOD, files=(ModelFile("a", "xyz"),), main=""), "bad_files"),
        ("m", replace(GOOD, metadata={f"k{i}": "v" for i in range(65)}), "bad_metadata"),
        ("m", replace(GOOD, metadata={"k": "v" * 513}), "bad_metadata"),
        ("m", replace(GOOD, metadata={"": "v"}), "bad_metadata"),
        ("m", replace(GOOD, metadata={"k": "\ud800"}), "bad_metadata"),
        ("m", replace(GOOD, metrics={"f1": float("nan")}), "bad_metrics"),
        ("m", replace(GOOD, settings={"x": "y" * 70_000}), "bad_settings"),
        ("m", replace(GOOD, signature=Signature((TensorSpec("x", "FP32", (-2,)),))), "bad_signature"),
        ("m", GOOD, "artefact_not_found"),
    ],
)
def test_what_is_not_sound_is_refused_and_leaves_nothing(registry: Registry, name: str, new: NewVersion, code: str) -> None:
    with pytest.raises(UserError) as raised:
        registry.register(name, new, ANN, now_s=0.0)
    assert raised.value.code == code
    assert registry.discover(Query()).versions == ()


def test_files_come_back_as_they_were(registry: Registry, store: ArtefactStore, tmp_path: Path) -> None:
    files = (ModelFile("saved_model.pb", store.put(b"graph")), ModelFile("variables/data", store.put(b"w" * 100)))
    made = registry.register("m", NewVersion("tensorflow-savedmodel", files), ANN, now_s=0.0)
    assert made.size_bytes == 105
    folder = registry.fetch("m", "1", tmp_path / "out")
    assert {str(part.relative_to(folder)): part.read_bytes() for part in folder.rglob("*") if part.is_file()} == {
        "saved_model.pb": b"graph",
        "variables/data": b"w" * 100,
    }
    assert registry.piece("m", "1", "variables/data", 90) == b"w" * 10 and registry.piece("m", "1", "variables/data", 100) == b""


def test_a_full_database_registers_nothing_and_says_so(store: ArtefactStore, tmp_path: Path) -> None:
    rows = SqlVersions(f"sqlite:///{tmp_path}/j.db")
    registry = Registry(rows, store, nothing_served)
    files = (ModelFile("m", store.put(b"x")),)
    with rows._engine.connect() as connection:  # the limit is of a connection, and the pool gives this one again
        connection.exec_driver_sql("PRAGMA max_page_count = 1")
    with pytest.raises(RuntimeFault) as raised:
        for i in range(50):
            registry.register("m", NewVersion("onnx", files, source=str(i) * 2000), ANN, now_s=0.0)
    assert raised.value.code == "storage_full"
    with sqlite3.connect(tmp_path / "j.db") as plain:
        (numbers,), (last,) = (
            plain.execute("SELECT count(*) FROM registry_versions").fetchone(),
            plain.execute("SELECT max(last_number) FROM registry_models").fetchone(),
        )
    assert numbers == (last or 0)
    rows.close()


def test_a_database_that_is_gone_is_unavailable(store: ArtefactStore) -> None:
    with pytest.raises(UnavailableError):
        SqlVersions("sqlite:////proc/nowhere/j.db")
    with pytest.raises(UnavailableError):
        Registry(SqlVersions("postgresql+psycopg://nobody@/none?host=/nowhere"), store, nothing_served)


def test_a_store_that_refuses_leaves_no_row(registry: Registry, put: Put, store: ArtefactStore) -> None:
    digest = put().digest
    with pytest.raises(UserError) as raised, store.receiving("f" * 64) as write:  # type: ignore[arg-type]
        write(b"cut off")
    assert raised.value.code == "file_changed"
    missing = (ModelFile("m", digest), ModelFile("n", "f" * 64))
    with pytest.raises(UserError):
        registry.register("resnet", NewVersion("onnx", missing), By("ann"), now_s=0.0)
    assert registry.model("resnet").last_number == 1
