"""A cluster file's machines: what is wrong is named by its key, with the nearest right one; what is right becomes nodes."""

from __future__ import annotations

from typing import Any

import pytest

from fabric.errors import FabricError
from fabric.machines.plan import PROVIDER, Cluster, is_machines, read_cluster
from fabric.machines.spec import Ports
from tests.labs import COLD, HEAD, HOT, SPARE, cluster_file


def read(changes: dict[str, Any] | None = None) -> Cluster:
    return read_cluster(cluster_file(changes))


KINDS = "available_node_types"

# -- what is right ---------------------------------------------------------------------------------------------------------


def test_machines_stand_with_the_head_first_and_only_the_least_run_from_the_start() -> None:
    cluster = read()
    assert (cluster.name, cluster.head, cluster.head_type) == ("lab", HEAD, "head")
    assert list(cluster.all_machines().items()) == [(HEAD, "head"), (HOT, "hot"), (COLD, "cold"), (SPARE, "cold")]
    assert list(cluster.first_machines()) == [HEAD, HOT, COLD]
    cold = cluster.node_types["cold"]
    assert (cold.min_workers, cold.max_workers) == (1, 2) and (cluster.node_types["head"].max_workers == 0)


def test_ssh_is_reached_as_the_file_says() -> None:
    access = read({"auth/ssh_proxy_command": "ssh -W %h:%p jump", "provider/ssh_port": 2222}).access
    assert (access.user, access.private_key, access.port, access.proxy_command) == ("ann", "~/.ssh/lab", 2222, "ssh -W %h:%p jump")
    assert access.known_hosts == "~/.tierfabric/clusters/lab/known_hosts"
    assert read({"auth": None}).access.user == "root" and read({"auth": None}).access.private_key is None


def test_each_machine_is_told_its_own_node() -> None:
    cluster = read({"provider/ports": {"gcs": 7000}, "provider/allow": ["192.168.0.0/24"], "provider/env": {"A": "1"}})
    head, worker = cluster.spec(HEAD, cluster.head_instance(), "abc"), cluster.spec(HOT, f"{HOT}-1", "abc")
    assert (head.kind, head.address, head.head, head.instance_id) == ("head", HEAD, HEAD, f"{HEAD}-head")
    assert (worker.kind, worker.address, worker.head, worker.node_type) == ("worker", HOT, HEAD, "hot")
    assert (worker.labels, worker.resources) == ({"tier": "hot", "flavor": "a100-80g"}, {"CPU": 8, "GPU": 1})
    assert head.autoscaling_config and head.fabric_config and not worker.autoscaling_config and not worker.fabric_config
    for spec in (head, worker):
        assert spec.ports == Ports(gcs=7000) and spec.env == {"A": "1"} and spec.release == "abc" and not spec.is_tls
        assert spec.friends == (HEAD, HOT, COLD, SPARE, "192.168.0.0/24") and spec.environment == "~/.tierfabric/venv"
    assert read({"provider/environment": "/opt/env"}).spec(HOT, "", "").environment == "/opt/env"


def test_a_host_name_is_looked_up_where_the_node_is_described() -> None:
    cluster = read({"available_node_types/hot/node_config": {"machines": ["localhost"]}})
    assert cluster.spec("localhost", "", "").address.startswith("127.")


def test_a_cluster_that_grows_leaves_the_nodes_that_run_as_they_are() -> None:
    grown = read({f"{KINDS}/cold/node_config": {"machines": [COLD, SPARE, "10.0.0.5"]}})
    for host in (HEAD, HOT, COLD):
        assert grown.spec(host, "", "abc").digest() == read().spec(host, "", "abc").digest(), host
    assert "10.0.0.5" in grown.spec(HOT, "", "abc").friends


@pytest.mark.parametrize(("env", "is_open"), [({}, False), ({"RAY_AUTH_MODE": "token"}, False), ({"RAY_AUTH_MODE": "disabled"}, True),
                                              ({"RAY_AUTH_MODE": ""}, True)])  # fmt: skip
def test_a_cluster_is_open_only_where_the_file_says_so(env: dict[str, str], is_open: bool) -> None:
    assert read({"provider/env": env}).is_open is is_open


@pytest.mark.parametrize(
    ("config", "is_ours"),
    [
        (cluster_file(), True),
        (cluster_file({"provider/module": "theirs.Provider"}), False),
        (cluster_file({"provider": {"type": "aws", "module": PROVIDER}}), False),
        ({"provider": None}, False),
        ({}, False),
    ],
)
def test_only_a_file_of_our_node_provider_is_of_machines(config: dict[str, Any], is_ours: bool) -> None:
    assert is_machines(config) is is_ours


# -- what is wrong ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "in_message", "in_hint"),
    [
        ({"provider/enviroment": "/opt"}, "unknown key provider.enviroment", "did you mean environment?"),
        ({"provider/tsl": {}}, "unknown key provider.tsl", "did you mean tls?"),
        ({"provider/ports": {"dashbord": 1}}, "unknown port provider.ports.dashbord", "did you mean dashboard?"),
        ({"provider/ports": {"metrics": 0}}, "provider.ports.metrics: 0 is no port", "1 to 65535"),
        ({"provider/ports": {"metrics": 65536}}, "provider.ports.metrics: 65536 is no port", "1 to 65535"),
        ({"provider/ports": {"metrics": "many"}}, "provider.ports.metrics: ", "onprem.yaml"),
        ({"provider/ssh_port": 0}, "provider.ssh_port: ", "onprem.yaml"),
        ({"provider/env": {"A": {"B": "1"}}}, "provider.env.A: ", "onprem.yaml"),
        ({"provider/allow": "10.0.0.0/8"}, "provider.allow: ", "onprem.yaml"),
        ({"provider/tls": {"cert": "c.pem", "key": "k.pem"}}, "provider.tls.ca: ", "onprem.yaml"),
        ({"provider/module": None}, "provider.module: ", "onprem.yaml"),
        ({"head_node_type": "haed"}, "head_node_type names no node type: 'haed'", "did you mean head?"),
        ({"head_node_type": None}, "head_node_type names no node type: ''", "known: cold, head, hot"),
        ({KINDS: None}, "head_node_type names no node type: 'head'", "known: none"),
        ({f"{KINDS}/hot": None}, None, None),
        ({f"{KINDS}/hot": {}}, f"{KINDS}.hot: names no machines", "node_config: {machines:"),
        ({f"{KINDS}/hot/node_config": {}}, f"{KINDS}.hot: names no machines", "node_config: {machines:"),
        ({f"{KINDS}/hot/node_config": {"machines": []}}, f"{KINDS}.hot: names no machines", "node_config: {machines:"),
        ({f"{KINDS}/hot/node_config": {"machines": "10.0.0.2"}}, f"{KINDS}.hot: names no machines", "node_config: {machines:"),
        ({f"{KINDS}/hot/node_config": {"machines": [10]}}, f"{KINDS}.hot: names no machines", "node_config: {machines:"),
        ({f"{KINDS}/hot/node_config": {"machines": [""]}}, f"{KINDS}.hot: names no machines", "node_config: {machines:"),
        ({f"{KINDS}/head/node_config": {"machines": [HEAD, "10.0.0.9"]}}, f"{KINDS}.head: the head is one machine, not 2", "one under"),
        ({f"{KINDS}/hot/node_config": {"machines": [HOT, HOT]}}, f"machine {HOT} stands twice, under hot and hot", "one machine is one"),
        ({f"{KINDS}/hot/node_config": {"machines": [HEAD]}}, f"machine {HEAD} stands twice, under head and hot", "one machine is one"),
        ({f"{KINDS}/cold/min_workers": 3}, f"{KINDS}.cold: min_workers 3 and max_workers 2", "0 <= min_workers"),
        ({f"{KINDS}/cold/max_workers": 3}, f"{KINDS}.cold: min_workers 1 and max_workers 3", "0 <= min_workers"),
        ({f"{KINDS}/cold/max_workers": 0}, f"{KINDS}.cold: min_workers 1 and max_workers 0", "0 <= min_workers"),
        ({f"{KINDS}/cold/min_workers": -1}, f"{KINDS}.cold: min_workers -1", "0 <= min_workers"),
    ],
)
def test_what_is_wrong_is_named_by_its_key_with_the_nearest_right_one(
    changes: dict[str, Any], in_message: str | None, in_hint: str | None
) -> None:
    if in_message is None or in_hint is None:
        assert "hot" not in read(changes).node_types
        return
    with pytest.raises(FabricError) as error:
        read(changes)
    assert error.value.code == "bad_cluster_file" and error.value.exit_status == 2
    assert in_message in error.value.message and error.value.hint is not None and in_hint in error.value.hint


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "/etc", "-x", "a b", "a;b", "$(id)", "a\nb"])
def test_a_name_that_is_no_folder_of_its_own_is_refused(name: str) -> None:
    """It names folders that are made and removed, here and on every machine, and stands in commands that are run there."""
    with pytest.raises(FabricError) as error:
        read({"cluster_name": name})
    assert error.value.code == "bad_cluster_file" and "cluster_name" in error.value.message


@pytest.mark.parametrize("name", ["lab", "lab-2", "my_lab.v2", "2nd"])
def test_plain_names_are_taken(name: str) -> None:
    assert read({"cluster_name": name}).name == name


def test_the_fabrics_own_settings_are_checked_before_anything_is_touched() -> None:
    good = read({"metadata/fabric": {"name": "lab", "routing": {"refresh_s": 2}}})
    assert good.settings == {"name": "lab", "routing": {"refresh_s": 2}}
    with pytest.raises(FabricError) as error:
        read({"metadata/fabric": {"routin": {}}})
    assert error.value.hint is not None and "routing" in error.value.hint and "metadata.fabric" in error.value.message
