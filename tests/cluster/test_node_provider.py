"""What Ray's autoscaler is told of machines that one owns. Ray is only imported: no cluster, and no machine is reached."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from fabric.cluster.file import check_schema
from fabric.cluster.launch import worker_tags
from fabric.machines import expand, local
from fabric.machines.book import Book
from fabric.machines.plan import read_cluster
from fabric.machines.spec import read_spec
from pools.flavors import load_catalogue
from tests.labs import COLD, HEAD, HOT, SPARE, cluster_file

WORKER, HEAD_KIND = {"ray-node-type": "worker"}, {"ray-node-type": "head"}


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def provider(*, on_head: bool) -> Any:
    """As Ray makes it, of the section that it is given."""
    from ray.autoscaler._private.providers import _get_node_provider

    whole = expand.complete(cluster_file(), load_catalogue())
    section = json.loads(expand.dumps(expand.for_head(whole) if on_head else whole))["provider"]
    return _get_node_provider(section, "lab", use_cache=False)


def test_ray_finds_the_provider_by_the_name_in_the_file() -> None:
    from ray.autoscaler.node_provider import NodeProvider

    made = provider(on_head=True)
    assert type(made).__module__ == "pools.node_provider" and isinstance(made, NodeProvider)
    abstract = {
        name for name in vars(NodeProvider) if name in ("non_terminated_nodes", "is_running", "node_tags", "internal_ip", "create_node")
    }
    assert abstract <= set(vars(type(made)))


def test_the_head_stands_without_a_record_and_workers_by_the_record() -> None:
    made, book = provider(on_head=True), Book()
    head = f"{HEAD}-head"
    assert made.non_terminated_nodes({}) == [head] and made.node_tags(head)["ray-node-status"] == "up-to-date"
    claimed = book.claim({HOT: "hot", COLD: "cold"}, {kind: worker_tags("lab", kind) for kind in ("hot", "cold")})
    hot, cold = claimed[HOT].instance_id, claimed[COLD].instance_id
    assert set(made.non_terminated_nodes({})) == {head, hot, cold}
    assert made.non_terminated_nodes(WORKER) == [hot, cold] and made.non_terminated_nodes(HEAD_KIND) == [head]
    assert made.non_terminated_nodes({**WORKER, "ray-user-node-type": "cold"}) == [cold]
    assert made.is_running(hot) and not made.is_terminated(hot) and made.internal_ip(hot) == made.external_ip(hot) == HOT
    book.settle(HOT, "failed", "no disk")
    assert made.is_terminated(hot) and made.node_tags(hot) == {} and made.non_terminated_nodes(WORKER) == [cold]


def test_tags_that_ray_sets_are_kept() -> None:
    made = provider(on_head=True)
    (entry,) = Book().take("hot", [HOT], 1, worker_tags("lab", "hot"))
    made.set_node_tags(entry.instance_id, {"ray-node-status": "waiting-for-ssh", "x": "y"})
    assert made.node_tags(entry.instance_id) == {**worker_tags("lab", "hot"), "ray-node-status": "waiting-for-ssh", "x": "y"}


def test_where_no_machine_is_free_ray_is_told_why() -> None:
    from ray.autoscaler.node_launch_exception import NodeLaunchException

    made, book = provider(on_head=True), Book()
    book.take("cold", [COLD, SPARE], 2, worker_tags("lab", "cold"))
    book.settle(SPARE, "failed", "its disk is full")
    with pytest.raises(NodeLaunchException) as error:
        made.create_node_with_resources_and_labels({}, worker_tags("lab", "cold"), 1, {}, {})
    assert "0 of 1 cold are free" in error.value.description and f"{SPARE}: its disk is full" in error.value.description


def test_an_instance_that_is_gone_is_not_ended_in_the_place_of_the_one_that_runs() -> None:
    made, book = provider(on_head=True), Book()
    (old,) = book.take("hot", [HOT], 1, worker_tags("lab", "hot"))
    book.forget(HOT)
    (new,) = book.take("hot", [HOT], 1, worker_tags("lab", "hot"))
    made.terminate_node(old.instance_id)
    assert book.entries()[HOT] == new


def test_a_launcher_knows_the_head_alone_and_ends_every_machine_of_the_file() -> None:
    made = provider(on_head=False)
    assert made.non_terminated_nodes({}) == []
    made.create_node({}, {**HEAD_KIND, "ray-user-node-type": "head"}, 1)
    assert made.non_terminated_nodes(HEAD_KIND) == [f"{HEAD}-head"] and made.non_terminated_nodes(WORKER) == []
    assert made.internal_ip(f"{HEAD}-head") == HEAD
    assert made.nodes_for_teardown(HEAD_KIND) == [f"{HEAD}-head"]
    assert made.nodes_for_teardown(WORKER) == [f"{HOT}-0", f"{COLD}-0", f"{SPARE}-0"]
    assert len(made.nodes_for_teardown({})) == 4 and not (Path.home() / ".tierfabric/machines.json").exists()


def test_rays_launcher_gets_a_whole_file_with_token_and_shipment() -> None:
    made = type(provider(on_head=False)).bootstrap_config(cluster_file())
    check_schema(made)
    ship = local.folder("lab") / "ship"
    assert made["file_mounts"] == {"~/.tierfabric/ship": str(ship)} and len(made["head_start_ray_commands"]) == 2
    spec = read_spec((ship / "head.json").read_text())
    cluster = read_cluster(cluster_file())
    assert spec.kind == "head" and spec.digest() == cluster.spec(HEAD, "", spec.release).digest()
    assert stat.S_IMODE((ship / "auth_token").stat().st_mode) == 0o600 and list(ship.glob("*.whl"))
    assert provider(on_head=False).prepare_for_head_node(made)["provider"]["on_head"] is True
