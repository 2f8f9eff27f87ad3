"""A registry over a real database of each kind and a store in a folder, and the API with one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fabric.artefacts import ArtefactStore
from fabric.config import FabricConfig
from fabric.registry.registry import Registry
from fabric.registry.sql import SqlVersions
from fabric.registry.version import By, ModelFile, ModelVersion, NewVersion
from serve_apps.registry.client import ModelRegistry
from tests.api_world import World, a_world
from tests.unit.journal.conftest import journal_url, postgres, postgres_url

__all__ = ["journal_url", "postgres", "postgres_url"]
ANN, BOB, OPS = By("ann"), By("bob"), By("ops", may_operate=True)
SERVED: dict[str, set[int]] = {}
Put = Callable[..., ModelVersion]


@pytest.fixture
def store(tmp_path: Path) -> ArtefactStore:
    return ArtefactStore(f"file://{tmp_path}/storage")


@pytest.fixture
def registry(journal_url: str, store: ArtefactStore) -> Iterator[Registry]:
    rows = SqlVersions(journal_url)
    SERVED.clear()
    yield Registry(rows, store, lambda name: SERVED.get(name, ()))
    rows.close()


@pytest.fixture
def put(registry: Registry, store: ArtefactStore) -> Put:
    """Registers a version of one small file."""

    def made(name: str = "resnet", content: bytes = b"weights", by: By = ANN, now_s: float = 0.0, **given: object) -> ModelVersion:
        file = ModelFile("model.onnx", store.put(content))
        return registry.register(name, NewVersion("onnx", (file,), "model.onnx", **given), by, now_s=now_s)  # type: ignore[arg-type]

    return made


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The API with its registry, on SQLite."""
    with a_world(tmp_path) as made:
        yield made


@pytest.fixture
def client(world: World) -> Callable[[str], ModelRegistry]:
    def of(user: str = "ann") -> ModelRegistry:
        return ModelRegistry(config=FabricConfig(), api=world.api(user), tell=world.told.append)

    return of
