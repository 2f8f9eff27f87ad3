"""The cores stay free of Ray, and importing the product stays cheap."""

from __future__ import annotations

import subprocess
import sys

import pytest

CORES = (
    "fabric.types, fabric.errors, fabric.events, fabric.capacity, fabric.lanes, fabric.routing, fabric.sizes, fabric.options, "
    "fabric.config, fabric.journal, fabric.show, fabric.explanation, "
    "pools.ledger, pools.discovery, pools.flavors, pools.describe, "
    "profiler.estimate, profiler.fingerprint, profiler.rules, profiler.store"
)


def loaded_after(code: str, *suspects: str) -> set[str]:
    """Which of the suspects a fresh interpreter has loaded after running `code`."""
    script = f"{code}\nimport sys\nprint(*(name for name in {suspects!r} if name in sys.modules))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(ran.stdout.split())


def test_no_core_needs_ray_not_even_indirectly() -> None:
    assert loaded_after(f"import {CORES}", "ray", "fabric.ray_io", "grpc", "onnxruntime") == set()


def test_deciding_needs_no_database_and_no_config_library() -> None:
    pure = "fabric.routing, fabric.lanes, fabric.sizes, fabric.events, pools.ledger, profiler.estimate, profiler.store"
    assert loaded_after(f"import {pure}", "ray", "pydantic", "yaml", "sqlalchemy", "rich", "numpy") == set()


def test_importing_fabric_loads_neither_ray_nor_the_config_libraries() -> None:
    assert loaded_after("import fabric; dir(fabric); fabric.NoFitError", "ray", "pydantic", "yaml", "sqlalchemy", "rich", "numpy") == set()


def test_every_public_name_has_a_home_and_the_surface_stays_small() -> None:
    import fabric

    assert len(fabric.__all__) <= 20
    assert set(fabric.__all__) == set(fabric._HOMES)
    with pytest.raises(AttributeError):
        _ = fabric.no_such_name
