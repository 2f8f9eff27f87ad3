"""What HAProxy is told as models and replicas come and go: replayed here on a model of its places and its map."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_apps.directory.choose_version import salt_of
from serve_apps.directory.table import ModelEntry, ReplicaAt, ReplicaId, ServingTable, Split, VersionEntry
from serve_apps.ingress.haproxy_config import NUM_DOORS, HaproxySettings, haproxy_config
from serve_apps.ingress.places import Link
from serve_apps.ingress.settings import is_loopback
from serve_apps.ingress.slots import Slots


class Told:
    """HAProxy as far as the commands reach."""

    def __init__(self, num_backends: int, num_servers: int) -> None:
        kinds = (("v", "r", num_servers), ("a", "r", num_servers), ("a", "b", num_servers), ("v", "u", NUM_DOORS), ("a", "u", NUM_DOORS))
        places = [f"{letter}{b}/{kind}{s}" for b in range(num_backends) for letter, kind, num in kinds for s in range(1, num + 1)]
        self.servers = dict.fromkeys(places, ("", "maint"))
        self.paths: dict[str, str] = {}
        self.open_doors: set[str] = set()

    def tell(self, commands: list[str | Link]) -> None:
        for command in commands:
            if isinstance(command, Link):
                place = command.place.replace("u", "/u")
                before, state = self.servers[place]
                assert state == "maint" and before not in self.open_doors, "connections to its last door may still be kept"
                self.servers[place] = (command.door, state)
            elif found := re.fullmatch(r"set server (\S+) addr (\S+) port (\d+)", command):
                assert self.servers[found[1]][1] == "maint", "an address changes only while nobody is sent there"
                self.servers[found[1]] = (f"{found[2]}:{found[3]}", "maint")
            elif found := re.fullmatch(r"set server (\S+) state (ready|maint)", command):
                self.servers[found[1]] = (self.servers[found[1]][0], found[2])
            elif found := re.fullmatch(r"(add|set) map m (\S+) (\S+)", command):
                assert (found[2] in self.paths) == (found[1] == "set")
                self.paths[found[2]] = found[3]
            elif found := re.fullmatch(r"del map m (\S+)", command):
                del self.paths[found[1]]
            else:
                raise AssertionError(command)

    def reached(self, path: str) -> set[str]:
        backend = self.paths.get(path)
        return {address for server, (address, state) in self.servers.items() if state == "ready" and server.startswith(f"{backend}/")}


def table_of(models: dict[str, tuple[str, dict[str, list[int]]]]) -> ServingTable:
    """name -> (default version, version -> ports); a replica's door is named after its address."""

    def entry(name: str, version: str, ports: list[int]) -> VersionEntry:
        return VersionEntry(
            version, None, tuple(ReplicaAt(ReplicaId(f"{name}{version}{port}"), "h", port, door=f"h:{port}") for port in ports)
        )

    return ServingTable(
        1,
        {name: ModelEntry(name, default, {v: entry(name, v, ports) for v, ports in of.items()}) for name, (default, of) in models.items()},
    )


PORTS = st.lists(st.integers(1, 5), unique=True, max_size=4)
MODELS = st.dictionaries(
    st.sampled_from("abc"), st.tuples(st.sampled_from(["1", "2"]), st.dictionaries(st.sampled_from(["1", "2"]), PORTS)), max_size=3
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(MODELS, st.sets(st.integers(1, 5))), min_size=1, max_size=6))
def test_after_every_change_each_path_leads_to_its_versions_replicas_and_no_others(
    steps: list[tuple[dict[str, tuple[str, dict[str, list[int]]]], set[int]]],
) -> None:
    haproxy = Told(6, 4)
    slots = Slots("m", 6, 4, answers=lambda door: door in haproxy.open_doors)
    for models, ports_with_doors in steps:
        haproxy.open_doors = {f"h:{port}" for port in ports_with_doors}
        haproxy.tell(slots.change_to(table_of(models)))
        left = slots.change_to(table_of(models))
        assert all(isinstance(command, str) and command.endswith("state maint") for command in left), (
            "what was left is emptied at the next look"
        )
        haproxy.tell(left)
        assert slots.change_to(table_of(models)) == [], "what stands needs no command"
        expected = {
            path: {f"h:{port}" for port in ports}
            for name, (default, versions) in models.items()
            for version, ports in versions.items()
            if ports
            for path in _paths(name, version, version == default)
        }
        assert set(haproxy.paths) == set(expected)
        assert all(haproxy.reached(path) == addresses for path, addresses in expected.items())


def _paths(name: str, version: str, is_default: bool) -> list[str]:
    prefixes = [f"/v2/models/{name}/versions/{version}"] + ([f"/v2/models/{name}"] if is_default else [])
    own = [f"grpc/{name}/{version}"] + ([f"/{name}/predict", f"grpc/{name}/"] if is_default else [])
    verbs = ("infer", "generate", "generate_stream")
    pinned = [f"/v2/models/{name}/{verb}@{version}" for verb in verbs] + [f"/{name}/predict@{version}"]
    return [f"{prefix}/{verb}" for prefix in prefixes for verb in verbs] + own + pinned


def split_table(shares: dict[str, int], default: str = "1", **ports: list[int]) -> ServingTable:
    """Model `a`; `ports`: those of `v1`, `v2`, …"""
    entries = {
        name[1:]: VersionEntry(name[1:], None, tuple(ReplicaAt(ReplicaId(f"{name}{port}"), "h", port) for port in of))
        for name, of in ports.items()
    }
    return ServingTable(1, {"a": ModelEntry("a", default, entries, Split(shares, "salt"), names={"champion": default})})


def test_a_change_of_weights_is_one_command_for_each_path_and_moves_no_replica() -> None:
    haproxy, slots = Told(6, 4), Slots("m", 6, 4)
    haproxy.tell(slots.change_to(split_table({"1": 9900, "2": 100}, v1=[1], v2=[2])))
    before = haproxy.paths["/v2/models/a/infer"]
    commands = slots.change_to(split_table({"1": 5000, "2": 5000}, v1=[1], v2=[2]))
    assert len(commands) == 5 and all(isinstance(command, str) and command.startswith("set map m ") for command in commands)
    haproxy.tell(commands)
    assert haproxy.paths["/v2/models/a/infer"] == before.replace(":9900:", ":5000:")
    assert haproxy.paths["grpc/a/"] == haproxy.paths["/a/predict"] == haproxy.paths["/v2/models/a/infer"]


def test_a_replica_on_this_machine_is_reached_by_its_door_and_any_other_by_its_port() -> None:
    haproxy = Told(6, 4)
    haproxy.open_doors = {"h:1"}
    slots = Slots("m", 6, 4, answers=lambda door: door in haproxy.open_doors)
    haproxy.tell(slots.change_to(table_of({"a": ("1", {"1": [1, 2]})})))
    assert {server: where for server, (where, state) in haproxy.servers.items() if state == "ready"} == {"v0/u1": "h:1", "v0/r1": "h:2"}


def test_a_door_that_is_still_open_keeps_its_place_from_others() -> None:
    haproxy = Told(6, 4)
    slots = Slots("m", 6, 4, answers=lambda door: door in haproxy.open_doors)
    haproxy.open_doors = {"h:1", "h:2", "h:3"}
    ready = []
    for port in (1, 2, 3):
        if port == 3:
            haproxy.open_doors = {"h:3"}  # the process of the first has ended
        haproxy.tell(slots.change_to(table_of({"a": ("1", {"1": [port]})})))
        ready += [server for server, (_, state) in haproxy.servers.items() if state == "ready"]
    assert ready == ["v0/u1", "v0/u2", "v0/u1"]


def test_the_reserve_of_an_arm_is_the_default() -> None:
    haproxy, slots = Told(6, 4), Slots("m", 6, 4)
    haproxy.tell(slots.change_to(split_table({"1": 5000, "2": 5000}, v1=[1, 3], v2=[2])))
    arms = {server: place for server, place in haproxy.servers.items() if server.startswith("a") and place[1] == "ready"}
    assert {server.split("/")[1][0] + place[0] for server, place in arms.items()} == {"rh:2", "bh:1", "bh:3"}
    haproxy.tell(slots.change_to(split_table({"1": 10000, "2": 0}, v1=[1, 3], v2=[2])))
    assert haproxy.reached("/v2/models/a/infer") == {"h:1", "h:3"}, "a split of one arm is none"


def test_an_arm_is_emptied_when_no_request_can_be_on_its_way_there() -> None:
    haproxy, slots = Told(6, 4), Slots("m", 6, 4)

    def in_arms() -> int:
        return sum(server.startswith("a") and place[1] == "ready" for server, place in haproxy.servers.items())

    whole = split_table({"1": 10000}, v1=[1], v2=[2])
    for table, expected in ((split_table({"1": 5000, "2": 5000}, v1=[1], v2=[2]), 2), (whole, 2), (whole, 0)):
        haproxy.tell(slots.change_to(table))
        assert in_arms() == expected


@pytest.mark.parametrize(
    ("table", "value"),
    [
        (split_table({"1": 9000, "2": 1000}, v1=[1], v2=[2]), "9000:v0:10000:a0:10000:a0:a0"),
        (split_table({"2": 1000, "1": 9000}, v1=[1], v2=[2]), "1000:a0:10000:v0:10000:v0:v0"),
        (split_table({"1": 5000, "2": 3000, "3": 2000}, v1=[1], v2=[2], v3=[3]), "5000:v0:8000:a0:10000:a1:a1"),
        (split_table({"1": 0, "2": 10000}, v1=[1], v2=[2]), "10000:a0:10000:a0:10000:a0:a0"),
        (split_table({"1": 9000, "2": 1000}, v1=[1], v2=[]), None),
        (split_table({"1": 9000, "2": 1000}, v1=[], v2=[2]), "10000:a0:10000:a0:10000:a0:a0"),
    ],
    ids=["two arms", "their order stays", "three", "all to the new one", "the new one is dead", "the default is dead"],
)
def test_a_split_stands_in_one_value(table: ServingTable, value: str | None) -> None:
    haproxy, slots = Told(6, 4), Slots("m", 6, 4)
    haproxy.tell(slots.change_to(table))
    found = haproxy.paths["/v2/models/a/infer"]
    assert found == (f"s:{salt_of(table.models['a'])}:{value}" if value else "v0")


def test_what_cannot_be_split_here_is_left_to_the_gateway() -> None:
    five = split_table({str(i): 2000 for i in range(1, 6)}, **{f"v{i}": [i] for i in range(1, 6)})
    haproxy, slots = Told(6, 4), Slots("m", 6, 4)
    haproxy.tell(slots.change_to(five))
    assert "/v2/models/a/infer" not in haproxy.paths and haproxy.reached("/v2/models/a/versions/5/infer") == {"h:5"}


def test_an_alias_leads_where_its_number_does() -> None:
    haproxy, slots = Told(6, 4), Slots("m", 6, 4)
    haproxy.tell(slots.change_to(split_table({"1": 5000, "2": 5000}, default="2", v1=[1], v2=[2])))
    for path in ("/v2/models/a/versions/champion/infer", "/v2/models/a/infer@champion", "grpc/a/champion", "/a/predict@champion"):
        assert haproxy.paths[path] == haproxy.paths[path.replace("champion", "2")]


def test_what_finds_no_place_is_left_to_the_gateway() -> None:
    haproxy, slots = Told(1, 2), Slots("m", 1, 2)
    haproxy.tell(slots.change_to(table_of({"a": ("1", {"1": [1, 2, 3]}), "b": ("1", {"1": [9]})})))
    assert slots.num_left_out == 1 and haproxy.reached("/v2/models/a/infer") == {"h:1", "h:2"}
    assert "/v2/models/b/infer" not in haproxy.paths
    haproxy.tell(slots.change_to(table_of({"b": ("1", {"1": [9]})})))
    assert slots.num_left_out == 0 and haproxy.reached("/v2/models/b/infer") == {"h:9"}


def test_the_configuration_listens_where_it_is_told_and_nowhere_else() -> None:
    text = haproxy_config(HaproxySettings(Path("/run/x"), "::1", 8000, "127.0.0.1:9999"))
    assert re.findall(r"^\s*bind (\S+)", text, re.M) == ["[::1]:8000"]
    assert "stats socket /run/x/haproxy.sock mode 600" in text and "server gateway 127.0.0.1:9999" in text


def test_loopback_is_told_from_what_others_reach() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "10.0.0.1", "example.org", "::")] == [False] * 4
