"""A cluster file as a user writes it: mistakes at every level are named by their key, before anything is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fabric.cluster.file import read_cluster_file
from fabric.errors import FabricError
from tests.labs import HEAD, cluster_file

CONFIGS = Path(__file__).parents[3] / "cluster_configs"


def written(tmp_path: Path, changes: dict[str, Any] | None = None) -> Path:
    path = tmp_path / "lab.yaml"
    path.write_text(yaml.safe_dump(cluster_file(changes), sort_keys=False), encoding="utf-8")
    return path


def refused(path: Path) -> FabricError:
    with pytest.raises(FabricError) as error:
        read_cluster_file(path)
    assert error.value.exit_status == 2 and str(path) in error.value.message
    return error.value


def test_a_file_of_machines_is_read_whole(tmp_path: Path) -> None:
    file = read_cluster_file(written(tmp_path))
    assert (file.name, file.provider) == ("lab", "external")
    assert file.cluster is not None and file.cluster.head == HEAD and file.config == cluster_file()


@pytest.mark.parametrize("name", ["aws", "gcp", "azure"])
def test_a_file_for_a_cloud_names_no_machines(name: str) -> None:
    file = read_cluster_file(CONFIGS / f"{name}.yaml")
    assert file.cluster is None and file.provider == name


KINDS = "available_node_types"


@pytest.mark.parametrize(
    ("changes", "in_message", "hint"),
    [
        ({"cluster_nmae": "x"}, "unknown key cluster_nmae", "did you mean cluster_name?"),
        ({"hed_node_type": "x"}, "unknown key hed_node_type", "did you mean head_node_type?"),
        ({"auth/ssh_usr": "x"}, "unknown key auth.ssh_usr", "did you mean ssh_user?"),
        ({f"{KINDS}/hot/max_worker": 1}, f"unknown key {KINDS}.hot.max_worker", "did you mean max_workers?"),
        ({"provider/enviroment": "x"}, "unknown key provider.enviroment", "did you mean environment?"),
        ({"provider/ports": {"gsc": 1}}, "unknown port provider.ports.gsc", "did you mean gcs?"),
        ({"metadata/fabric": {"nmae": "x"}}, "nmae", "did you mean name?"),
        ({"cluster_name": None}, "'cluster_name' is a required property", None),
        ({"cluster_name": 7}, "cluster_name: 7 is not of type 'string'", None),
        ({"provider/type": None}, "provider: 'type' is a required property", None),
        ({"max_workers": "18"}, "max_workers: '18' is not of type 'integer'", None),
        ({f"{KINDS}/hot/resources": {"GPU": 0.5}}, f"{KINDS}.hot.resources.GPU: 0.5 is not of type 'integer'", None),
        ({f"{KINDS}/hot/resources": None}, f"{KINDS}.hot: 'resources' is a required property", None),
        ({f"{KINDS}/hot/labels": {"tier": 1}}, f"{KINDS}.hot.labels.tier: 1 is not of type 'string'", None),
        ({"setup_commands": [1]}, "setup_commands.0: 1 is not of type 'string'", None),
        ({"auth": ["x"]}, "auth: ['x'] is not of type 'object'", None),
        ({f"{KINDS}/hot": ["x"]}, f"{KINDS}.hot: ['x'] is not of type 'object'", None),
        ({KINDS: {1: {}}}, f"the key {KINDS}.1 is no text", "write it in quotes"),
        ({f"{KINDS}/hot/labels": {True: "x"}}, f"the key {KINDS}.hot.labels.True is no text", "write it in quotes"),
        ({1: "x"}, "the key 1 is no text", "write it in quotes"),
    ],
)
def test_a_mistake_is_named_by_its_key_with_the_nearest_right_one(
    tmp_path: Path, changes: dict[Any, Any], in_message: str, hint: str | None
) -> None:
    config = cluster_file({key: value for key, value in changes.items() if isinstance(key, str)})
    config |= {key: value for key, value in changes.items() if not isinstance(key, str)}
    path = tmp_path / "lab.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    error = refused(path)
    assert in_message in error.message and error.hint
    if "nmae" not in in_message or "cluster" in in_message:
        assert error.code == "bad_cluster_file"
    if hint is not None:
        assert error.hint == hint


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("cluster_name: [", "config_not_yaml"),
        ("a: b: c", "config_not_yaml"),
        ("\t- x", "config_not_yaml"),
        ("", "bad_cluster_file"),
        ("- a\n- b\n", "bad_cluster_file"),
        ("just words", "bad_cluster_file"),
        ("{}", "bad_cluster_file"),
        ("cluster_name: x\nprovider: aws\n", "bad_cluster_file"),
    ],
)
def test_what_is_no_cluster_file_is_told(tmp_path: Path, text: str, code: str) -> None:
    path = tmp_path / "lab.yaml"
    path.write_text(text)
    assert refused(path).code == code


def test_a_file_that_is_not_there_or_cannot_be_read_is_told(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.yaml").code == "no_such_file"
    assert refused(tmp_path).code == "unreadable_file"
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert refused(tmp_path / "binary.yaml").code == "unreadable_file"


def test_an_unknown_key_goes_before_other_mistakes(tmp_path: Path) -> None:
    assert "unknown key max_worker" in refused(written(tmp_path, {"max_workers": "18", "max_worker": 1, "cluster_name": 1})).message
