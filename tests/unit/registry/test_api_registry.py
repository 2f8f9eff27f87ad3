"""The registry over the API, by the client and the command line: a file goes in, is found, named, and comes back as it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from fabric.artefacts import ArtefactStore
from fabric.cli.main import Root
from fabric.errors import ModelError, RejectedError, RuntimeFault, UnknownNameError
from fabric.registry.names import Ref
from fabric.registry_form import render_versions
from serve_apps.load_model import load_model
from serve_apps.registry.client import ModelRegistry
from serve_apps.registry.deploying import files_of, source_digest, source_of
from serve_apps.registry.interface import ModelServiceInterface
from serve_apps.registry.invoking import Invoker
from serve_apps.source import FileSource, get_source
from tests.api_world import World
from tests.asgi_transport import AsgiTransport
from tests.softmax_models import X, expected, write_onnx
from tests.unit.oip import models
from tests.unit.oip.server import Server
from tests.unit.test_artefacts import files_no_larger_than

Client = Callable[..., ModelRegistry]


@click.group(cls=Root, name="fabric", table={"model": ("fabric.cli.model:model", "")})
def cli() -> None:
    """All that is tested here."""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "made").mkdir()
    return write_onnx(tmp_path / "made")


@pytest.fixture
def run(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FABRIC_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("FABRIC_TOKEN", world.secrets["ann"])
    monkeypatch.setattr("fabric.api_client.transport_to", lambda *_: world.transport)
    monkeypatch.setenv("COLUMNS", "100")
    yield lambda *words: CliRunner().invoke(cli, ["model", *map(str, words)])


def test_a_file_is_registered_with_its_signature_and_comes_back_as_it_was(client: Client, model: Path, tmp_path: Path) -> None:
    here: ModelServiceInterface = client()
    made = here.register(model, name="resnet", metadata={"task": "cv"}, metrics={"accuracy": 0.93})
    assert (made.ref, made.framework, made.main, made.source) == ("resnet:1", "onnx", "model", model.as_uri())
    assert str(made.signature) == "x: FP32[?, 4] -> y: FP32[?, 3]"
    assert client("bob").find("resnet") == made and here.discover(metadata={"task": "cv"}).versions == (made,)
    path = client().fetch("resnet:1", tmp_path / "out")
    assert path.read_bytes() == model.read_bytes() and path == tmp_path / "out" / "model"


def test_bytes_that_are_there_are_not_sent_again(client: Client, world: World, model: Path) -> None:
    client().register(model, name="resnet")
    world.transport.requests.clear()
    assert client().register(model, name="resnet").number == 2
    assert "PUT" not in {method for method, _ in world.transport.requests}


def test_weights_beside_an_onnx_file_go_with_it_and_a_missing_one_is_refused(client: Client, model: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    folder = tmp_path / "split"
    (folder / "weights").mkdir(parents=True)
    loaded = onnx.load(str(model))
    onnx.save(loaded, folder / "m.onnx", save_as_external_data=True, location="weights/all.bin", size_threshold=0, convert_attribute=True)
    made = client().register(folder / "m.onnx", name="split")
    assert [file.path for file in made.files] == ["m.onnx", "weights/all.bin"]
    out = client().fetch("split", tmp_path / "out")
    assert (out.parent / "weights" / "all.bin").read_bytes() == (folder / "weights" / "all.bin").read_bytes()
    (folder / "weights" / "all.bin").unlink()
    with pytest.raises(ModelError) as raised:
        client().register(folder / "m.onnx", name="split")
    assert raised.value.code == "model_unreadable" and client().model("split").last_number == 1


def test_what_is_registered_is_built_by_a_replica_as_it_is(client: Client, world: World, model: Path, tmp_path: Path) -> None:
    store = ArtefactStore(f"file://{world.store_folder}")
    made = client().register(model, name="resnet")
    digest = source_digest(made, store)
    assert get_source(digest, store) == source_of(made, store) == FileSource.of(model, store)
    assert files_of(source_of(made, store), store) == (tuple(type(f)(f.path, f.digest) for f in made.files), made.main)
    with load_model(source_of(made, store).localise(store, tmp_path / "cache")) as built:  # type: ignore[union-attr]
        assert built.infer(X)["y"] == pytest.approx(expected(), abs=1e-6)


def test_a_scope_is_needed_and_a_model_is_its_users(client: Client, world: World, model: Path) -> None:
    client().register(model, name="resnet")
    assert world.ask(None, "GET", "/v1/registry/versions").status == 401
    with pytest.raises(RejectedError) as raised:
        client("bob").register(model, name="resnet")
    assert raised.value.code == "forbidden"
    with pytest.raises(RejectedError):
        client("bob").set_aliases("resnet", {"champion": 1})
    assert client("ops").set_aliases("resnet", {"champion": 1}).aliases == {"champion": 1}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "models/nobody", None, 404, "unknown_model"),
        ("GET", "models/resnet/versions/9", None, 404, "unknown_version"),
        ("GET", "models/resnet/versions/no%20such", None, 400, "bad_version"),
        ("GET", "models/resnet/versions/1/files/other", None, 404, "unknown_file"),
        ("GET", "versions?sort=nope", None, 400, "unknown_sort"),
        ("GET", "versions?metadata=task", None, 400, "bad_metadata"),
        ("GET", "versions?metdata=task", None, 400, "unknown_key"),
        ("GET", "versions?cursor=xyz", None, 400, "bad_cursor"),
        ("PATCH", "models/resnet/aliases", b'{"champion": 9}', 404, "unknown_version"),
        ("PATCH", "models/resnet/aliases", b'{"champion": 1, "champion": 1}', 400, "duplicate_alias"),
        ("PATCH", "models/resnet/aliases", b'{"champion": "1"}', 400, "bad_request"),
        ("PATCH", "models/resnet/aliases", b"{", 400, "bad_request"),
        ("PATCH", "models/resnet/versions/champion", b"{}", 400, "bad_version"),
        ("PATCH", "models/resnet/versions/1", b'{"state": "gone"}', 400, "bad_state"),
        ("DELETE", "models/resnet/versions/7", None, 404, "unknown_version"),
        ("POST", "models/resnet/versions", b'{"framework": "onnx", "files": []}', 400, "bad_files"),
        ("POST", "models/resnet/versions", b'{"framwork": "onnx", "files": []}', 400, "unknown_key"),
        ("PUT", "blobs/abc", b"x", 400, "bad_key"),
        ("PUT", "blobs/" + "0" * 64, b"x", 400, "file_changed"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_code(
    client: Client, world: World, model: Path, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    client().register(model, name="resnet")
    reply = world.ask("ann", method, f"/v1/registry/{path}", body)
    assert (reply.status, json.loads(reply.body)["code"]) == (status, code)


def test_the_api_document_has_every_page(world: World) -> None:
    document = json.loads(world.ask(None, "GET", "/v1/openapi.json").body)
    pages = {path: set(methods) for path, methods in document["paths"].items() if path.startswith("/v1/registry")}
    assert pages == {
        "/v1/registry/versions": {"get"},
        "/v1/registry/models/{name}": {"get"},
        "/v1/registry/models/{name}/versions": {"post"},
        "/v1/registry/models/{name}/versions/{version}": {"get", "patch", "delete"},
        "/v1/registry/models/{name}/versions/{version}/files/{path}": {"get"},
        "/v1/registry/models/{name}/aliases": {"patch"},
        "/v1/registry/blobs/{digest}": {"put", "head"},
    }


def test_a_large_file_arrives_and_returns_in_pieces(client: Client, world: World, tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "weights").write_bytes(os.urandom(20 * 2**20))
    made = client().register(folder, name="large", loads=False)
    assert made.signature is None and made.framework == "tensorflow-savedmodel"
    out = client().fetch("large", tmp_path / "out")
    assert (out / "weights").read_bytes() == (folder / "weights").read_bytes()
    assert sum("/files/weights" in path for _, path in world.transport.requests) == 3


def test_invoke_asks_what_the_model_takes_converts_lists_and_gives_arrays() -> None:
    transport = AsgiTransport(Server([models.vector()]).app)
    invoker = Invoker(lambda: "", lambda: "", transport)
    for _ in range(2):
        outputs = invoker.invoke(Ref("vector-fp32"), [1, 2], 10.0)
        assert [array.tolist() for array in outputs.values()] == [[1.0, 2.0]]
    assert [method for method, _ in transport.requests] == ["GET", "POST", "POST"]
    with pytest.raises(ModelError) as raised:
        invoker.invoke(Ref("vector-fp32"), {"z": [1]}, 10.0)
    assert raised.value.code == "unknown_input"
    with pytest.raises(UnknownNameError):
        invoker.invoke(Ref("nobody"), [1], 10.0)
    transport.close()


def test_the_command_line_registers_names_lists_and_deletes(run: Callable[..., Result], model: Path, world: World, tmp_path: Path) -> None:
    first = run("register", model, "--name", "resnet", "--metadata", "task=cv,dataset=a,b", "--metric", "accuracy=0.93")
    assert first.stdout == "resnet:1\n", first.output
    assert run("register", model, "--name", "resnet").stdout == "resnet:2\n"
    assert run("alias", "resnet", "champion=1", "challenger=2").stdout == "resnet: challenger is 2, champion is 1\n"
    told = json.loads(run("versions", "resnet", "-o", "json").stdout)["versions"]
    assert [(one["ref"], one["aliases"]) for one in told] == [("resnet:2", ["challenger"]), ("resnet:1", ["champion"])]
    assert told[1]["metadata"] == {"task": "cv", "dataset": "a,b"}
    shown = run("search", "CV").stdout
    assert "resnet:1" in shown and "resnet:2" not in shown and "accuracy 0.93" in shown and max(map(len, shown.splitlines())) <= 100
    assert run("fetch", "resnet:champion", tmp_path / "out").stdout == f"{tmp_path}/out/model\n"
    assert run("deprecate", "resnet:2", "--why", "wrong labels").stdout == "resnet:2 is deprecated\n"
    assert "wrong" in run("versions", "resnet").stdout
    assert run("unregister", "resnet:1").exit_code == 3
    assert run("alias", "resnet", "champion=").exit_code == 0
    world.served["resnet"] = {1}
    assert "version_served" in run("unregister", "resnet:1").output
    world.served.clear()
    assert run("unregister", "resnet:1").stdout == "resnet:1: gone\n"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("alias", "resnet", "champion"), "bad_alias"),
        (("alias", "nobody", "champion=1"), "unknown_model"),
        (("versions", "nobody"), "unknown_model"),
        (("deprecate", "resnet:champion"), "bad_version"),
        (("register", "no-such-file", "--name", "x"), "model_not_found"),
        (("register", "no-such-file", "--metadata", "x"), "bad_metadata"),
        (("register", "no-such-file", "--metric", "x=y"), "bad_metrics"),
        (("import", "mlflw:x"), "unknown_registry"),
        (("import", "triton:/no/such"), "bad_place"),
        (("export", "resnet:1", "triton:."), "bad_place"),
    ],
)
def test_a_mistyped_command_says_what_is_wrong(run: Callable[..., Result], words: tuple[str, ...], code: str) -> None:
    result = run(*words)
    assert result.exit_code in (1, 2) and f"error[{code}]" in result.output


def test_what_is_no_model_is_told_as_such(client: Client, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ModelError) as raised:
        client().register(tmp_path / "notes.txt", name="notes")
    assert raised.value.code == "unknown_model_format"


def test_no_versions_is_said_in_words() -> None:
    assert "fabric model register" in render_versions([])


def test_a_full_disk_registers_nothing_and_the_next_try_does(client: Client, world: World, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(os.urandom(4 * 2**20))
    with files_no_larger_than(2**20), pytest.raises(RuntimeFault) as raised:
        client().register(folder, name="large", loads=False)
    assert raised.value.code == "storage_full" and client().discover().versions == ()
    assert world.blobs() == []
    assert client().register(folder, name="large", loads=False).number == 1
