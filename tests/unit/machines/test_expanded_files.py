"""A cluster file made whole: Ray takes it, the head's autoscaler reads the same cluster from it, what the user wrote is kept."""

from __future__ import annotations

import copy
import dataclasses
import json
import shlex
from typing import Any

import pytest

from fabric.cluster.file import check_schema
from fabric.machines.expand import complete, dumps, for_head, provider_cluster, with_ray_up
from fabric.machines.plan import HEAD_KEY, Cluster, read_cluster
from fabric.types import Flavor
from pools.flavors import load_catalogue
from tests.labs import HEAD, HOT, cluster_file

CATALOGUE = load_catalogue()
KINDS = "available_node_types"
RICH = {
    "provider/environment": "/opt/env",
    "provider/ports": {"gcs": 7000},
    "provider/env": {"A": "1"},
    "provider/allow": ["192.168.0.0/24"],
    "provider/ssh_port": 2222,
    "auth/ssh_proxy_command": "ssh -W %h:%p jump",
    "metadata/fabric": {"name": "lab"},
    "setup_commands": ["true"],
    f"{KINDS}/cold/idle_timeout_s": 60,
}


def essence(cluster: Cluster) -> dict[str, Any]:
    """All that a node provider does with a cluster: which machines, how reached, what each is to run."""
    specs = {host: dataclasses.asdict(cluster.spec(host, "x", "y")) for host in cluster.all_machines()}
    kinds = {name: dataclasses.asdict(kind) for name, kind in cluster.node_types.items()}
    return {"name": cluster.name, "head": cluster.head, "access": cluster.access, "kinds": kinds, "specs": specs}


@pytest.mark.parametrize("changes", [{}, RICH, {"auth": None}], ids=["plain", "rich", "without auth"])
def test_what_the_node_provider_reads_is_the_files_own_cluster(changes: dict[str, Any]) -> None:
    config = cluster_file(changes)
    whole = complete(config, CATALOGUE)
    assert essence(provider_cluster(whole["provider"], "lab")) == essence(read_cluster(config))
    assert not provider_cluster(whole["provider"], "lab").provider.on_head


@pytest.mark.parametrize("changes", [{}, RICH], ids=["plain", "rich"])
def test_the_heads_copy_differs_only_in_how_machines_are_reached(changes: dict[str, Any]) -> None:
    config = cluster_file(changes)
    sent = json.loads(dumps(for_head(complete(config, CATALOGUE))))  # as it is written on the head
    there = provider_cluster(sent["provider"], sent["cluster_name"])
    assert there.provider.on_head
    assert (there.access.private_key, there.access.proxy_command) == (HEAD_KEY, None)
    here = read_cluster(config)
    same = dataclasses.replace(here, access=dataclasses.replace(here.access, private_key=HEAD_KEY, proxy_command=None))
    assert essence(there) == essence(same) == essence(dataclasses.replace(read_cluster(sent), settings={}))


def test_a_head_without_a_key_of_the_files_uses_its_own() -> None:
    there = for_head(complete(cluster_file({"auth/ssh_private_key": None}), CATALOGUE))
    assert "ssh_private_key" not in there["auth"] and provider_cluster(there["provider"], "lab").access.private_key is None


@pytest.mark.parametrize("changes", [{}, RICH], ids=["plain", "rich"])
def test_ray_takes_every_form_of_it(changes: dict[str, Any]) -> None:
    whole = complete(cluster_file(changes), CATALOGUE)
    launched = with_ray_up(whole, "/home/ann/.tierfabric/clusters/lab/ship", "head.json")
    for form in (whole, for_head(whole), launched, for_head(launched)):
        check_schema(form)
        for kind in form[KINDS].values():
            assert {"priority", "min_workers", "max_workers"} - set(kind) <= {"priority"}
        assert form["max_workers"] == 3 and form["provider"]["disable_node_updaters"] is True


def test_what_the_user_wrote_is_kept_and_the_file_itself_is_not_touched() -> None:
    config = cluster_file({**RICH, f"{KINDS}/hot/priority": 99, "max_workers": 2, f"{KINDS}/cold/max_workers": 1})
    before = copy.deepcopy(config)
    whole = complete(config, CATALOGUE)
    with_ray_up(for_head(whole), "/ship", "head.json")
    assert config == before
    assert whole[KINDS]["hot"]["priority"] == 99 and whole["max_workers"] == 2 and whole["setup_commands"] == ["true"]
    assert (whole[KINDS]["cold"]["max_workers"], whole[KINDS]["cold"]["idle_timeout_s"]) == (1, 60)
    again = complete(whole, CATALOGUE)
    assert again == whole


def flavor(name: str, usd_per_h: float | None) -> Flavor:
    return dataclasses.replace(CATALOGUE["t4"], name=name, usd_per_h=usd_per_h)


def test_the_cheaper_a_node_the_sooner_it_is_started_and_one_without_a_price_last() -> None:
    catalogue = {name: flavor(name, price) for name, price in (("dear", 4.0), ("cheap", 0.5), ("mid", 1.0), ("unknown", None))}
    kinds = {
        "head": {"node_config": {"machines": [HEAD]}, "resources": {"CPU": 2}, "labels": {"flavor": "cheap"}},
        "dear": {"node_config": {"machines": ["10.0.1.1"]}, "resources": {"GPU": 1}, "labels": {"flavor": "dear"}},
        "cheap": {"node_config": {"machines": ["10.0.1.2"]}, "resources": {"GPU": 1}, "labels": {"flavor": "cheap"}},
        "many": {"node_config": {"machines": ["10.0.1.3"]}, "resources": {"GPU": 16}, "labels": {"flavor": "cheap"}},
        "mid": {"node_config": {"machines": ["10.0.1.4"]}, "resources": {"GPU": 2}, "labels": {"flavor": "mid"}},
        "unknown": {"node_config": {"machines": ["10.0.1.5"]}, "resources": {"GPU": 1}, "labels": {"flavor": "unknown"}},
        "strange": {"node_config": {"machines": ["10.0.1.6"]}, "resources": {"GPU": 1}, "labels": {"flavor": "no-such"}},
    }
    whole = complete(cluster_file({KINDS: kinds}), catalogue)
    ranks = {name: kind.get("priority") for name, kind in whole[KINDS].items()}
    assert sorted((name for name in ranks if ranks[name]), key=lambda name: -ranks[name]) == ["cheap", "mid", "dear", "many", "unknown"]
    assert ranks["head"] is None and ranks["strange"] is None


def test_ray_up_sends_the_shipment_and_starts_the_agent_on_the_head() -> None:
    whole = complete(cluster_file({**RICH, "head_setup_commands": ["mine"], "file_mounts": {"/data": "/here"}}), CATALOGUE)
    launched = with_ray_up(whole, "/ship", "head.json")
    assert launched["file_mounts"] == {"/data": "/here", "~/.tierfabric/ship": "/ship"}
    mine, install = launched["head_setup_commands"]
    assert mine == "mine" and shlex.split(install)[:2] == ["sh", "~/.tierfabric/ship/install.sh"] and shlex.split(install)[2] == "/opt/env"
    agent, actors = launched["head_start_ray_commands"]
    words, _, command = agent.partition("; ")  # Ray looks for these words, and puts the whole into a pair of brackets: no comment ends it
    assert words.startswith(": 'ray start --head --autoscaling-config=") and "#" not in agent
    assert command == "/opt/env/bin/python -m fabric.machines.agent start restart up < ~/.tierfabric/ship/head.json"
    assert actors == f"~/.tierfabric/run fabric up --address {HEAD}:7000"
    assert launched["worker_start_ray_commands"] == [] and for_head(launched)["file_mounts"]["~/.tierfabric/ship"] == "~/.tierfabric/ship"


def test_without_an_environment_one_is_made_with_the_files_python() -> None:
    whole = complete(cluster_file({"provider/python": "python3.11"}), CATALOGUE)
    (install,) = with_ray_up(whole, "/ship", "head.json")["head_setup_commands"]
    assert shlex.split(install)[2:] == ["", "python3.11"]
    assert HOT in json.dumps(whole["provider"]["node_types"])
