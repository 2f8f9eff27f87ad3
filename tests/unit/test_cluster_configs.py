"""The files for `ray up` on a cloud: Ray takes them, they say what the instances have, and nothing is open but SSH."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fabric.types import DEFAULT_TIERS, FLAVOR_LABEL, TIER_LABEL
from pools.flavors import load_catalogue
from tests.changed_documents import changed

HERE = Path(__file__).parents[2] / "cluster_configs"
CATALOGUE = load_catalogue()
CLOUDS = ("aws", "azure", "gcp")


def _ray() -> Path:
    found = importlib.util.find_spec("ray")  # importing it takes half a second, and is not needed
    assert found is not None and found.origin is not None
    return Path(found.origin).parent


SCHEMA = json.loads((_ray() / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
ACCELERATORS = set(re.findall(r'^\w+ = "([^"]+)"', (_ray() / "util" / "accelerators" / "accelerators.py").read_text(), re.MULTILINE))
AZURE = json.loads((_ray() / "autoscaler" / "_private" / "_azure" / "azure-vm-template.json").read_text(encoding="utf-8"))

# vCPUs, and accelerators as Ray counts them. Source: the clouds' instance tables.
INSTANCES: dict[str, tuple[int, dict[str, int]]] = {
    "m7i.2xlarge": (8, {}),
    "p4d.24xlarge": (96, {"GPU": 8}),
    "inf2.xlarge": (4, {"neuron_cores": 2}),
    "g6.xlarge": (4, {"GPU": 1}),
    "c7i.2xlarge": (8, {}),
    "c3-standard-8": (8, {}),
    "a2-highgpu-1g": (12, {"GPU": 1}),
    "g2-standard-8": (8, {"GPU": 1}),
    "Standard_D8s_v5": (8, {}),
    "Standard_NC24ads_A100_v4": (24, {"GPU": 1}),
    "Standard_NC4as_T4_v3": (4, {"GPU": 1}),
}
# Ray hands node_config on to the cloud as it is.
NODE_CONFIG = {
    "aws": {"InstanceType", "ImageId", "BlockDeviceMappings", "InstanceMarketOptions"},
    "gcp": {"machineType", "tags", "disks", "scheduling"},
    "azure": {"azure_arm_parameters"},
}
INSTALL = [
    "test -x ~/.tierfabric/venv/bin/python || python3.11 -m venv ~/.tierfabric/venv",
    "~/.tierfabric/venv/bin/pip install -q -c ~/.tierfabric/ship/constraints.txt ~/.tierfabric/ship/tierfabric-*.whl",
]


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    return document


def instance_of(node_type: Mapping[str, Any]) -> str:
    config = node_type["node_config"]
    found: str = config.get("InstanceType") or config.get("machineType") or config["azure_arm_parameters"]["vmSize"]
    return found


def starts(document: Mapping[str, Any]) -> list[str]:
    return [*document["head_start_ray_commands"], *document["worker_start_ray_commands"]]


def must(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def check(document: Mapping[str, Any]) -> None:
    """Raises where Ray, the cloud or the fabric would stumble over the file, or where it opens what is to be closed."""
    jsonschema.Draft7Validator(SCHEMA).validate(document)
    types = document["available_node_types"]
    must(document["head_node_type"] in types, "head_node_type names no type")
    for name, node_type in types.items():
        check_type(name, node_type, document["provider"]["type"], is_head=name == document["head_node_type"])
    workers = {name: each for name, each in types.items() if name != document["head_node_type"]}
    must(document["max_workers"] == sum(each["max_workers"] for each in workers.values()), "max_workers is not the sum of the types'")
    must({each["labels"][TIER_LABEL] for each in workers.values()} == set(DEFAULT_TIERS), "there is no type for each tier")
    by_price = sorted(workers.values(), key=price_of)
    must(
        [each["priority"] for each in by_price] == sorted({each["priority"] for each in by_price}, reverse=True), "priority is not by price"
    )
    check_commands(document)
    check_closed(document)


def check_type(name: str, node_type: Mapping[str, Any], provider: str, *, is_head: bool) -> None:
    labels, resources = node_type["labels"], node_type["resources"]
    must(labels.get(FLAVOR_LABEL) in CATALOGUE, f"{name}: unknown flavor")
    flavor = CATALOGUE[labels[FLAVOR_LABEL]]
    must(labels == {TIER_LABEL: flavor.tier, FLAVOR_LABEL: flavor.name}, f"{name}: labels are not those of the flavor")
    must(0 <= node_type["min_workers"] <= node_type["max_workers"], f"{name}: min > max")
    num_cpus, cards = INSTANCES[instance_of(node_type)]
    must(resources["CPU"] == (0 if is_head else num_cpus), f"{name}: CPUs")
    must({key: value for key, value in resources.items() if key != "CPU" and ":" not in key} == cards, f"{name}: accelerators")
    kinds = [key.partition(":")[2] for key in resources if key.startswith("accelerator_type:")]
    must(len(kinds) == bool(cards) and set(kinds) <= ACCELERATORS, f"{name}: accelerator_type")
    must(not cards or (flavor.resource in cards and cards[flavor.resource] % flavor.units == 0), f"{name}: not the flavor's resource")
    must(node_type["node_config"].keys() <= NODE_CONFIG[provider], f"{name}: node_config")
    parameters = node_type["node_config"].get("azure_arm_parameters", {})
    must(parameters.keys() <= AZURE["parameters"].keys(), f"{name}: azure_arm_parameters")


def price_of(node_type: Mapping[str, Any]) -> float:
    flavor = CATALOGUE[node_type["labels"][FLAVOR_LABEL]]
    assert flavor.usd_per_h is not None
    return flavor.usd_per_h * float(node_type["resources"][flavor.resource]) / flavor.units


def check_commands(document: Mapping[str, Any]) -> None:
    must(document["file_mounts"].get("~/.ray/auth_token") == "~/.ray/auth_token", "the token does not travel")
    must(document["file_mounts"].get("~/.tierfabric/ship") == "~/.tierfabric/ship", "the wheel does not travel")
    must([each for each in document["setup_commands"] if each in INSTALL] == INSTALL, "tierfabric is not installed as it is shipped")
    for command in starts(document):
        must(command.startswith(". ~/.tierfabric/venv/bin/activate; "), f"outside of the environment: {command}")
        must("export RAY_AUTH_MODE=token" in command, f"without the token: {command}")
    for command in (each for each in starts(document) if "ray start" in each):
        must('--labels "$(fabric node labels)" --resources "$(fabric node resources)"' in command, "ray start without labels")
        must("RAY_USAGE_STATS_ENABLED=0" in command, "usage data is sent")
    head = " ".join(document["head_start_ray_commands"])
    must("RAY_gcs_storage=rocksdb RAY_gcs_storage_path=" in head, "the head forgets")
    must("--autoscaling-config=~/ray_bootstrap_config.yaml" in head, "the head does not scale")
    must(document["head_start_ray_commands"][-1].endswith("fabric up --address auto"), "the fabric's actors are not started")
    must(0 < slowest_loss_ms(head) <= 8000, "a loss is noticed too late")


def slowest_loss_ms(head: str) -> int:
    """How long a machine that answers nothing stays a node: 0 where the head does not say."""
    given = dict(re.findall(r"RAY_health_check_(period_ms|timeout_ms|failure_threshold)=(\d+)", head))
    if len(given) < 3:
        return 0
    return int(given["failure_threshold"]) * (int(given["period_ms"]) + int(given["timeout_ms"]))


def check_closed(document: Mapping[str, Any]) -> None:
    text = json.dumps(document)
    must("0.0.0.0" not in text and "::/0" not in text, "open to everybody")
    head = " ".join(document["head_start_ray_commands"])
    must("--dashboard-host=127.0.0.1" in head, "the dashboard is not on loopback")
    must("IpPermissions" not in text, "ports beside SSH are opened")


# -- the files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLOUDS)
def test_the_file_is_one_that_ray_the_cloud_and_the_fabric_take(name: str) -> None:
    document = read(name)
    assert document["provider"]["type"] == name
    check(document)


@pytest.mark.parametrize("name", CLOUDS)
def test_every_command_is_bash(name: str) -> None:
    document = read(name)
    for command in [*document["setup_commands"], *document["head_setup_commands"], *starts(document)]:
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), command


@pytest.mark.parametrize("name", CLOUDS)
def test_what_is_taken_away_at_any_time_is_the_cold_tier_alone(name: str) -> None:
    def is_spot(config: Mapping[str, Any]) -> bool:
        return any(word in json.dumps(config) for word in ('"spot"', '"SPOT"', '"Spot"'))

    document = read(name)
    spot = [each for each in document["available_node_types"].values() if is_spot(each["node_config"])]
    assert [each["labels"][TIER_LABEL] for each in spot] == ["cold"]
    head = document["available_node_types"][document["head_node_type"]]
    assert not is_spot(head["node_config"]) and head["max_workers"] == 0


@pytest.mark.parametrize("name", CLOUDS)
def test_the_first_line_says_how_it_is_started(name: str) -> None:
    first = (HERE / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# fabric up cluster_configs/{name}.yaml"


def test_all_start_a_cluster_in_the_same_way() -> None:
    documents = [read(name) for name in CLOUDS]
    for key in ("file_mounts", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
        assert [each[key] for each in documents] == [documents[0][key]] * len(documents), key


# -- mistakes --------------------------------------------------------------------------------------------------------------


HOT = "available_node_types/hot-a100"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("cluster_nmae", "x"),
        ("cluster_name", None),
        ("max_workers", "18"),
        ("max_workers", 17),
        ("head_node_type", "haed"),
        ("provider/type", None),
        ("auth/user", "ubuntu"),
        ("file_mounts", {"~/.tierfabric/ship": "~/.tierfabric/ship"}),
        ("file_mounts", {"~/.ray/auth_token": "~/.ray/auth_token"}),
        ("setup_commands/3", "pip install tierfabric"),
        ("worker_start_ray_commands/0", "ray stop"),
        (
            "worker_start_ray_commands/1",
            ". ~/.tierfabric/venv/bin/activate; export RAY_AUTH_MODE=token; ray start --address=$RAY_HEAD_IP:6379",
        ),
        ("head_start_ray_commands/2", ". ~/.tierfabric/venv/bin/activate; fabric up --address auto"),
        (f"{HOT}/priorty", 1),
        (f"{HOT}/priority", "10"),
        (f"{HOT}/priority", 90),
        (f"{HOT}/idle_timeout_s", "5m"),
        (f"{HOT}/min_workers", 3),
        (f"{HOT}/labels/tier", "hott"),
        (f"{HOT}/labels/tier", "warm"),
        (f"{HOT}/labels/flavor", "a100"),
        (f"{HOT}/labels/flavor", None),
        (f"{HOT}/labels/flavor", "h100-nvl"),
        (f"{HOT}/resources/GPU", 4),
        (f"{HOT}/resources/GPU", 8.5),
        (f"{HOT}/resources/accelerator_type:A100", None),
        (f"{HOT}/resources/CPU", 48),
        (f"{HOT}/node_config/InstanceTyp", "p4d.24xlarge"),
        (f"{HOT}/node_config", None),
        ("provider/security_group/IpPermissions", [{"FromPort": 8265, "ToPort": 8265, "IpProtocol": "tcp"}]),
        ("provider/security_group/Cidr", "0.0.0.0/0"),
    ],
)
def test_every_kind_of_mistake_is_noticed(path: str, value: Any) -> None:
    document = read("aws")
    with pytest.raises((jsonschema.ValidationError, ValueError)):
        check(changed(document, path, value))


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0"),
        ("--dashboard-host=127.0.0.1", ""),
        ("RAY_gcs_storage=rocksdb", ""),
        ("RAY_health_check_timeout_ms=1500", "RAY_health_check_timeout_ms=10000"),
        ("RAY_health_check_failure_threshold=3", ""),
        ("export RAY_AUTH_MODE=token", ""),
        ("--autoscaling-config=~/ray_bootstrap_config.yaml", ""),
        ("RAY_USAGE_STATS_ENABLED=0", ""),
    ],
)
def test_every_mistake_in_the_heads_command_is_noticed(was: str, becomes: str) -> None:
    document = read("aws")
    command = document["head_start_ray_commands"][1]
    assert was in command
    with pytest.raises(ValueError):
        check(changed(document, "head_start_ray_commands/1", command.replace(was, becomes)))


@pytest.mark.parametrize("parameter", ["vmSiz", "spot"])
def test_a_parameter_that_rays_template_for_azure_lacks_is_noticed(parameter: str) -> None:
    with pytest.raises(ValueError, match="azure_arm_parameters"):
        check(changed(read("azure"), f"available_node_types/cold-cpu/node_config/azure_arm_parameters/{parameter}", "x"))
