"""What a machine's shell prints, read as facts."""

from __future__ import annotations

import json

import pytest

from fabric.machines.facts import read_facts

NODE = {"state": "up", "cluster": "lab", "instance_id": "10.0.0.2-1", "digest": "d", "restarts": 0}
PRINTED = f"""host tf2
home /home/ann with a space
python 3.11.9
has_venv 1
shm_bytes 1024
files unlimited
nvidia_cards 0
nvidia_problem
taken 6379
taken 8265
taken x
node_status {json.dumps(NODE)}
watchdog 4711
release
clock 1000.5
"""


def test_lines_become_facts() -> None:
    facts = read_facts(PRINTED, 1000.0, 1001.0, 0.3)
    assert facts.text("host") == "tf2" and facts.text("home") == "/home/ann with a space"
    assert facts.has("has_venv") and not facts.has("nvidia_cards") and not facts.has("absent")
    assert facts.number("shm_bytes") == 1024.0 and facts.number("nvidia_cards") == 0.0
    assert facts.number("files") is None and facts.number("absent") is None
    assert facts.text("nvidia_problem") == "" and facts.text("release") == ""
    assert facts.taken == {6379, 8265} and facts.reached_s == 0.3
    assert dict(facts.node) == NODE


def test_a_status_that_no_living_watchdog_stands_for_is_no_node() -> None:
    left = "\n".join(line for line in PRINTED.splitlines() if not line.startswith("watchdog"))
    assert read_facts(left, 1000.0, 1001.0, 0.3).node == {}


@pytest.mark.parametrize("status", ["", '{"state": "up", "clus', "[]", "null", "7"])
def test_a_status_that_cannot_be_read_is_no_node(status: str) -> None:
    assert read_facts(f"node_status {status}\nwatchdog 4711\n", 0.0, 1.0, 0.1).node == {}


@pytest.mark.parametrize(("there_s", "skew_s"), [(1000.0, 0.0), (1000.7, 0.0), (1001.0, 0.0), (990.0, 10.0), (1031.0, 30.0), (None, 0.0)])
def test_a_clock_is_off_by_what_the_time_of_asking_cannot_explain(there_s: float | None, skew_s: float) -> None:
    printed = "" if there_s is None else f"clock {there_s}\n"
    assert read_facts(printed, 1000.0, 1001.0, 1.0).skew_s == pytest.approx(skew_s)


@pytest.mark.parametrize("clock", ["1000.N", "1000.%N", "?"])
def test_a_date_command_without_nanoseconds_does_no_harm(clock: str) -> None:
    assert read_facts(f"clock {clock}\n", 1000.0, 1001.0, 1.0).skew_s == 0.0


def test_nothing_printed_is_a_machine_of_which_nothing_is_known() -> None:
    facts = read_facts("", 1000.0, 1001.0, 1.0)
    assert (dict(facts.values), facts.taken, dict(facts.node), facts.skew_s) == ({}, frozenset(), {}, 0.0)
