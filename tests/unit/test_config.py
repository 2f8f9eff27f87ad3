"""fabric.yaml, FABRIC_* and flags: who wins, where each value came from, and what a mistake is told."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import pytest

from fabric.config import FabricConfig, LoadedConfig, TwinPool, address_from_environment, load_config
from fabric.errors import ConfigError, FabricError, UnknownNameError


def load(tmp_path: Path, text: str = "", *, flags: dict[str, Any] | None = None, **environ: str) -> LoadedConfig:
    file = tmp_path / "fabric.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, flags=flags, environ=environ)


def refused(tmp_path: Path, text: str = "", **environ: str) -> FabricError:
    with pytest.raises(FabricError) as caught:
        load(tmp_path, text, **environ)
    return caught.value


# -- who wins --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("in_file", "in_environment", "as_flag", "value", "origin"),
    [
        (None, None, None, 10.0, "default"),
        (1, None, None, 1.0, "file"),
        (1, "2", None, 2.0, "FABRIC_ROUTING__WAITING_USD_PER_H"),
        (1, "2", 3, 3.0, "flag"),
        (None, "2", None, 2.0, "FABRIC_ROUTING__WAITING_USD_PER_H"),
        (1, None, 3, 3.0, "flag"),
        (1, "", None, 1.0, "file"),
    ],
)
def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(
    tmp_path: Path, in_file: int | None, in_environment: str | None, as_flag: int | None, value: float, origin: str
) -> None:
    text = "" if in_file is None else f"routing: {{waiting_usd_per_h: {in_file}}}"
    environ = {} if in_environment is None else {"FABRIC_ROUTING__WAITING_USD_PER_H": in_environment}
    flags = {} if as_flag is None else {"routing.waiting_usd_per_h": as_flag}
    loaded = load(tmp_path, text, flags=flags, **environ)
    assert loaded.config.routing.waiting_usd_per_h == value
    expected = str(tmp_path / "fabric.yaml") if origin == "file" else origin
    assert loaded.origins["routing.waiting_usd_per_h"] == expected


def test_every_setting_has_an_origin(tmp_path: Path) -> None:
    loaded = load(tmp_path, "name: lab\nrouting: {refresh_s: 1}\ntwin: {hot: {flavor: h100}}", FABRIC_USER="ann")
    file = str(tmp_path / "fabric.yaml")
    given = {key: origin for key, origin in loaded.origins.items() if origin != "default"}
    assert given == {"name": file, "routing.refresh_s": file, "twin.hot.flavor": file, "user": "FABRIC_USER"}
    assert {"queue", "dashboard.port", "twin.warm.flavor", "twin.hot.units", "tiers", "journal_url"} <= loaded.origins.keys()


def test_a_group_given_as_a_whole_changes_only_the_keys_it_names(tmp_path: Path) -> None:
    loaded = load(tmp_path, "routing: {waiting_usd_per_h: 7}", FABRIC_ROUTING="{refresh_s: 2}")
    assert (loaded.config.routing.waiting_usd_per_h, loaded.config.routing.refresh_s) == (7.0, 2.0)
    assert loaded.origins["routing.waiting_usd_per_h"] == str(tmp_path / "fabric.yaml")
    assert loaded.origins["routing.refresh_s"] == "FABRIC_ROUTING"


def test_without_anything_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load_config(environ={})
    assert loaded.config.tier_names == ("hot", "warm", "cold")
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.config.user == getpass.getuser()


def test_the_file_is_the_one_named_or_the_one_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fabric.yaml").write_text("name: here")
    (tmp_path / "other.yaml").write_text("name: named")
    monkeypatch.chdir(tmp_path)
    assert load_config(environ={}).config.name == "here"
    assert load_config(environ={"FABRIC_CONFIG": str(tmp_path / "other.yaml")}).config.name == "named"
    assert load_config(tmp_path / "other.yaml", environ={"FABRIC_CONFIG": "/nowhere.yaml"}).config.name == "named"


def test_variables_that_are_no_settings_are_left_alone(tmp_path: Path) -> None:
    assert load(tmp_path, FABRIC_ADDRESS="head:6379", OTHER="x").config.name == "tierfabric"


def test_a_section_of_comments_only_is_as_if_not_there(tmp_path: Path) -> None:
    loaded = load(tmp_path, "routing:\n  # refresh_s: 1\ntwin:\nname: lab", FABRIC_ROUTING__REFRESH_S="3")
    assert (loaded.config.routing.refresh_s, loaded.config.name) == (3.0, "lab")


def test_a_user_id_without_a_name_is_a_user_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert load(tmp_path).config.user.startswith("uid-")


@pytest.mark.parametrize(
    ("environ", "address"),
    [({}, None), ({"RAY_ADDRESS": "r:1"}, "r:1"), ({"FABRIC_ADDRESS": "f:1", "RAY_ADDRESS": "r:1"}, "f:1"), ({"FABRIC_ADDRESS": ""}, None)],
)
def test_the_address_is_fabrics_before_rays(environ: dict[str, str], address: str | None) -> None:
    assert address_from_environment(environ) == address


# -- mistakes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("nmae: lab", "nmae", "did you mean name?"),
        ("routing: {refresh: 1}", "routing.refresh", "did you mean refresh_s?"),
        ("dashboard: {prot: 1}", "dashboard.prot", "did you mean port?"),
        ("twin: {hot: {flavour: h100}}", "twin.hot.flavour", "did you mean flavor?"),
        ("twin: {hot: {flavor: h100, slow_down: 2}}", "twin.hot.slow_down", "did you mean slowdown?"),
        ("tiers: [{nam: hot}]", "tiers.0.nam", "did you mean name?"),
        ("tiers: [{name: hot, task_shar: 1}]", "tiers.0.task_shar", "did you mean task_share?"),
        ("devices: [{kind: npu, name: x, cuont: 1}]", "devices.0.cuont", "did you mean count?"),
        ("routing: {refresh_s: 0}\nnmae: lab", "nmae", "did you mean name?"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(tmp_path: Path, text: str, key: str, hint: str) -> None:
    error = refused(tmp_path, text)
    assert isinstance(error, UnknownNameError)
    assert (error.code, error.hint, error.name) == ("unknown_config_key", hint, key)
    assert error.message == f"{tmp_path / 'fabric.yaml'}: unknown config key {key!r}"


def test_an_unknown_variable_is_named_itself(tmp_path: Path) -> None:
    error = refused(tmp_path, "name: lab", FABRIC_ROUTING__REFRESH="1")
    assert error.message == "FABRIC_ROUTING__REFRESH: unknown config key 'routing.refresh'"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("routing: {refresh_s: 0}", ("routing.refresh_s", "got 0")),
        ("routing: {waiting_usd_per_h: -1}", ("routing.waiting_usd_per_h", "got -1")),
        ("routing: {waiting_usd_per_h: much}", ("routing.waiting_usd_per_h", "got 'much'")),
        ("dashboard: {port: 70000}", ("dashboard.port", "got 70000")),
        ("twin: {hot: {slowdown: 0.5}}", ("twin.hot.slowdown", "got 0.5")),
        ("tiers: [{name: Hot!}]", ("tiers.0.name", "got 'Hot!'")),
        ("tiers: [{name: hot, task_share: 2}]", ("tiers.0.task_share", "got 2")),
        ("tiers: []", ("tiers", "at least one")),
        ("tiers: [{name: hot}, {name: hot}]", ("tiers", "each named once")),
        ("tiers: 5", ("tiers", "got 5")),
        ("tiers: hot", ("tiers", "got 'hot'")),
        ("twin: 5", ("twin", "got 5")),
        ("twin: {hot: 5}", ("twin.hot", "got 5")),
        ("routing: 5", ("routing", "got 5")),
        ("devices: [{kind: npu, name: x, count: 0}]", ("devices.0.count", "got 0")),
    ],
)
def test_a_bad_value_is_refused_with_its_key_and_itself(tmp_path: Path, text: str, parts: tuple[str, ...]) -> None:
    error = refused(tmp_path, text)
    assert isinstance(error, ConfigError)
    assert (error.code, error.exit_status) == ("bad_config", 2)
    assert all(part in error.message for part in (*parts, "fabric.yaml")), error.message


@pytest.mark.parametrize("text", ["a: [1", "a: b: c", "\tname: x"])
def test_what_is_not_yaml_is_refused_as_such(tmp_path: Path, text: str) -> None:
    assert refused(tmp_path, text).code == "config_not_yaml"


def test_bytes_that_are_not_text_are_refused_as_such(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "x.yaml", environ={})
    assert caught.value.code == "config_not_yaml"


def test_a_variable_that_is_not_yaml_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path, FABRIC_QUEUE="[oops")
    assert (error.code, "FABRIC_QUEUE='[oops'" in error.message) == ("config_not_yaml", True)


@pytest.mark.parametrize(("text", "kind"), [("- a\n- b", "list"), ("just words", "str"), ("42", "int")])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    assert refused(tmp_path, text).message.endswith(f"must be a mapping of settings, not a {kind}")


@pytest.mark.parametrize("path", ["nowhere.yaml", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="cannot read") as caught:
        load_config(tmp_path / path, environ={})
    assert caught.value.code == "config_not_found"


def test_a_value_is_no_group(tmp_path: Path) -> None:
    assert "name is not a group of settings" in refused(tmp_path, "name: lab", FABRIC_NAME__FIRST="x").message


# -- twins -----------------------------------------------------------------------------------------------------------------

STANDARD = {"hot": "a100-80g", "warm": "cloud-ai-100", "cold": "cpu"}


@pytest.mark.parametrize(
    ("text", "twins"),
    [
        ("", STANDARD),
        ("twin: {hot: {flavor: h100}}", {**STANDARD, "hot": "h100"}),
        ("twin: {hot: null}", STANDARD),
        ("tiers: [{name: hot}, {name: cold}]", {"hot": "a100-80g", "cold": "cpu"}),
        ("tiers: [{name: cold}, {name: edge}]\ntwin: {edge: {flavor: my-npu}}", {"cold": "cpu", "edge": "my-npu"}),
        ("tiers: [{name: edge}]", {}),
    ],
)
def test_each_standard_tier_has_a_twin_unless_the_file_says_otherwise(tmp_path: Path, text: str, twins: dict[str, str]) -> None:
    assert {tier: pool.flavor for tier, pool in load(tmp_path, text).config.twin.items()} == twins


def test_a_twin_of_a_standard_tier_keeps_its_flavor_when_only_its_speed_is_given(tmp_path: Path) -> None:
    loaded = load(tmp_path, "twin: {hot: {slowdown: 2}}", FABRIC_TWIN__COLD__SLOWDOWN="8")
    assert loaded.config.twin["hot"] == TwinPool(flavor="a100-80g", slowdown=2)
    assert loaded.config.twin["cold"] == TwinPool(flavor="cpu", slowdown=8)
    assert loaded.origins["twin.cold.slowdown"] == "FABRIC_TWIN__COLD__SLOWDOWN"


def test_a_twin_of_an_unknown_tier_is_refused_with_the_nearest(tmp_path: Path) -> None:
    error = refused(tmp_path, "twin: {hott: {flavor: h100}}")
    assert error.message.endswith("twin.hott: unknown tier 'hott' (did you mean hot?)")


def test_the_journal_is_in_the_state_directory_unless_named() -> None:
    here = FabricConfig(state_dir=Path("/var/lib/fabric"))
    assert here.database_url == "sqlite:////var/lib/fabric/journal.db"
    assert FabricConfig(journal_url="postgresql://db/fabric").database_url == "postgresql://db/fabric"
    assert FabricConfig(state_dir=Path("~/x")).state_path == Path.home() / "x"
