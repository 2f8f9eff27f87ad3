"""The ledger of one tier: nodes come and go, are closed and leased; the journal gives all of it back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fabric.errors import RejectedError, UnknownNameError
from fabric.events import (
    JOURNALLED,
    DrainNode,
    LeaseGranted,
    LeaseReleased,
    NodeCordoned,
    NodeDrainRequested,
    NodesObserved,
    NodeUncordoned,
    PoolFact,
    RestNode,
    StartNodeAgent,
    UsageReported,
)
from fabric.types import Lease, Node, NodeUsage, PoolSnapshot
from pools.ledger import REST_AFTER, Ledger
from tests.fleet import COLD, HOT, node

ALPHA, BETA = "aaaa1111bbbb", "aaaa2222cccc"
USAGE = NodeUsage(cpu_frac=0.5, memory_used_bytes=1, memory_total_bytes=2)


def machine(node_id: str, host: str = "") -> Node:
    return node(node_id, HOT, host=host, GPU=2.0)


def ledger_with(*nodes: Node) -> Ledger:
    ledger = Ledger("hot")
    ledger.handle(NodesObserved(nodes))
    return ledger


def health(ledger: Ledger) -> dict[str, str]:
    return {n.node_id: n.health for n in ledger.snapshot().nodes}


# -- nodes come and go -----------------------------------------------------------------------------------------------------


def test_a_ledger_takes_only_the_nodes_of_its_tier() -> None:
    assert health(ledger_with(machine(ALPHA), node("c", COLD))) == {ALPHA: "ready"}


def test_the_version_grows_when_a_node_joins_or_is_lost_but_not_with_its_use() -> None:
    ledger = ledger_with(machine(ALPHA))
    first = ledger.version
    ledger.handle(NodesObserved((replace(machine(ALPHA), used={"GPU": 1.0}),)))
    ledger.handle(UsageReported("host-" + ALPHA, USAGE))
    assert ledger.version == first
    ledger.handle(NodesObserved((machine(ALPHA), machine(BETA))))
    second = ledger.version
    ledger.handle(NodesObserved((machine(BETA),)))
    assert first < second < ledger.version
    assert health(ledger) == {BETA: "ready"}


def test_an_agent_is_asked_for_once_per_host_and_again_when_the_host_comes_back() -> None:
    ledger = Ledger("hot")
    here = (machine(ALPHA, "rack-1"), machine(BETA, "rack-1"))
    (command,) = ledger.handle(NodesObserved(here))
    assert isinstance(command, StartNodeAgent)
    assert command.host == "rack-1"
    assert ledger.handle(NodesObserved(here)) == []
    assert ledger.handle(NodesObserved(here[:1])) == []
    assert ledger.handle(NodesObserved(())) == []
    assert ledger.handle(NodesObserved(here[:1])) == [StartNodeAgent("rack-1", ALPHA)]


def test_an_elastic_node_that_nothing_uses_rests_until_something_does() -> None:
    idle = replace(machine(ALPHA, "rack-1"), is_elastic=True)
    busy = replace(idle, used={"GPU": 1.0})
    ledger = ledger_with(idle)
    told = [ledger.handle(NodesObserved((idle,))) for _ in range(REST_AFTER + 3)]
    assert [command for commands in told for command in commands] == [RestNode("rack-1", ALPHA)]
    assert ledger.snapshot().nodes[0].is_resting
    assert ledger.handle(NodesObserved((busy,))) == [StartNodeAgent("rack-1", ALPHA)]
    assert not ledger.snapshot().nodes[0].is_resting


def test_a_node_that_is_used_now_and_then_or_leased_or_no_elastic_one_never_rests() -> None:
    idle = replace(machine(ALPHA, "rack-1"), is_elastic=True)
    used = replace(idle, used={"CPU": 0.1})
    ledger = ledger_with(idle)
    for number in range(3 * REST_AFTER):
        assert ledger.handle(NodesObserved((used if number % REST_AFTER == 0 else idle,))) == []
    leased = ledger_with(idle)
    leased.handle(LeaseGranted(Lease("l", "job", ALPHA, {"GPU": 1.0}), "ann"))
    fixed = ledger_with(machine(ALPHA))
    for _ in range(3 * REST_AFTER):
        assert leased.handle(NodesObserved((idle,))) == [] and fixed.handle(NodesObserved((machine(ALPHA),))) == []


def test_a_measurement_counts_for_every_node_of_its_host_until_the_host_is_gone() -> None:
    ledger = ledger_with(machine(ALPHA, "rack-1"), machine(BETA, "rack-1"))
    ledger.handle(UsageReported("rack-1", USAGE))
    assert [n.usage for n in ledger.snapshot().nodes] == [USAGE, USAGE]
    ledger.handle(NodesObserved(()))
    ledger.handle(NodesObserved((machine(ALPHA, "rack-1"),)))
    assert ledger.find(ALPHA).usage is None


# -- health ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([NodeCordoned(ALPHA, "ann")], "cordoned"),
        ([NodeCordoned(ALPHA, "ann"), NodeCordoned(ALPHA, "bob")], "cordoned"),
        ([NodeCordoned(ALPHA, "ann"), NodeUncordoned(ALPHA, "ann")], "ready"),
        ([NodeUncordoned(ALPHA, "ann")], "ready"),
        ([NodeDrainRequested(ALPHA, "ann", 60.0)], "draining"),
        ([NodeDrainRequested(ALPHA, "ann", 60.0), NodeUncordoned(ALPHA, "ann")], "draining"),
        ([NodeCordoned(ALPHA, "ann"), NodeDrainRequested(ALPHA, "ann", 60.0)], "draining"),
    ],
)
def test_cordons_are_taken_back_and_drains_are_final(facts: list[PoolFact], expected: str) -> None:
    ledger = ledger_with(machine(ALPHA), machine(BETA))
    before = ledger.version
    for fact in facts:
        ledger.handle(fact)
    assert health(ledger) == {ALPHA: expected, BETA: "ready"}
    assert ledger.version > before


def test_a_cordon_outlives_a_node_that_is_not_seen_for_a_moment() -> None:
    ledger = ledger_with(machine(ALPHA))
    ledger.handle(NodeCordoned(ALPHA, "ann"))
    ledger.handle(NodesObserved(()))
    ledger.handle(NodesObserved((machine(ALPHA),)))
    assert health(ledger) == {ALPHA: "cordoned"}


def test_draining_tells_ray_how_long_the_work_may_still_run() -> None:
    assert ledger_with(machine(ALPHA)).handle(NodeDrainRequested(ALPHA, "ann", 60.0)) == [DrainNode(ALPHA, 60.0)]


# -- names -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "found"), [(ALPHA, ALPHA), ("aaaa1", ALPHA), ("aaaa2222", BETA), ("rack-2", BETA)])
def test_a_node_is_found_by_its_id_a_unique_prefix_or_its_host(name: str, found: str) -> None:
    assert ledger_with(machine(ALPHA, "rack-1"), machine(BETA, "rack-2")).find(name).node_id == found


@pytest.mark.parametrize("name", ["aaaa", "aaa", "", "rack-9", "rack", "aaaa1111bbbbcc"])
def test_an_unknown_or_ambiguous_name_is_refused(name: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        ledger_with(machine(ALPHA, "rack-1"), machine(BETA, "rack-2")).find(name)
    assert caught.value.code == "unknown_node"


def test_a_host_with_two_nodes_of_the_tier_does_not_name_one() -> None:
    with pytest.raises(UnknownNameError):
        ledger_with(machine(ALPHA, "rack-1"), machine(BETA, "rack-1")).find("rack-1")


def test_the_hint_for_a_misspelt_node_is_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError) as caught:
        ledger_with(machine("deadbeef0000"), machine("c0ffee000000")).find("deadbeaf")
    assert caught.value.hint == "did you mean deadbeef?"


# -- leases ----------------------------------------------------------------------------------------------------------------


def lease(lease_id: str, gpus: float, node_id: str = ALPHA) -> Lease:
    return Lease(lease_id, "job-1", node_id, {"GPU": gpus})


def test_a_lease_beyond_what_others_left_is_refused_for_now() -> None:
    ledger = ledger_with(machine(ALPHA))
    ledger.handle(LeaseGranted(lease("one", 1.5), "ann"))
    ledger.check_lease(lease("two", 0.5))
    with pytest.raises(RejectedError, match=r"has 0\.5 GPU left, not 1") as caught:
        ledger.check_lease(lease("two", 1.0))
    assert (caught.value.code, caught.value.retryable) == ("resources", True)
    ledger.handle(LeaseReleased("one", "ann"))
    ledger.check_lease(lease("two", 2.0))


def test_granting_a_lease_a_second_time_changes_nothing() -> None:
    ledger = ledger_with(machine(ALPHA))
    for _ in range(2):
        ledger.check_lease(lease("one", 2.0))
        ledger.handle(LeaseGranted(lease("one", 2.0), "ann"))
    assert ledger.snapshot().leases == (lease("one", 2.0),)
    for _ in range(2):
        ledger.handle(LeaseReleased("one", "ann"))
    assert ledger.snapshot().leases == ()


def test_a_closed_node_grants_no_lease() -> None:
    ledger = ledger_with(machine(ALPHA))
    ledger.handle(NodeCordoned(ALPHA, "ann"))
    with pytest.raises(RejectedError) as caught:
        ledger.check_lease(lease("one", 1.0))
    assert (caught.value.code, caught.value.retryable) == ("node_closed", True)


@pytest.mark.parametrize("node_id", ["unknown", "aaaa1111", "host-aaaa1111bbbb"])
def test_a_lease_names_its_node_in_full(node_id: str) -> None:
    with pytest.raises(UnknownNameError):
        ledger_with(machine(ALPHA)).check_lease(lease("one", 1.0, node_id))


def test_what_a_lost_node_leased_is_gone_with_it_also_after_a_restart() -> None:
    ledger, restarted = ledger_with(machine(ALPHA), machine(BETA)), Ledger("hot")
    granted = LeaseGranted(lease("one", 1.0), "ann")
    ledger.handle(granted)
    restarted.handle(granted)
    for each in (ledger, restarted):
        each.handle(NodesObserved((machine(BETA),)))
        assert each.snapshot().leases == ()


# -- replay ----------------------------------------------------------------------------------------------------------------

node_ids = st.sampled_from(["n1", "n2", "n3"])
lease_ids = st.sampled_from(["a", "b", "c", "d"])


def without_telemetry(snapshot: PoolSnapshot) -> PoolSnapshot:
    return replace(snapshot, version=0, nodes=tuple(replace(n, usage=None) for n in snapshot.nodes))


class LedgerOverTime(RuleBasedStateMachine):
    """Any order of facts, the journalled ones kept."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger("hot")
        self.journal: list[PoolFact] = []
        self.seen = NodesObserved(())

    def take(self, fact: PoolFact) -> None:
        before = self.ledger.version
        self.ledger.handle(fact)
        assert self.ledger.version >= before
        if type(fact).__name__ in JOURNALLED:
            self.journal.append(fact)
        if isinstance(fact, NodesObserved):
            self.seen = fact

    @rule(present=st.sets(node_ids))
    def observe(self, present: set[str]) -> None:
        self.take(NodesObserved(tuple(machine(name) for name in sorted(present))))

    @rule(name=node_ids)
    def cordon(self, name: str) -> None:
        self.take(NodeCordoned(name, "ann"))

    @rule(name=node_ids)
    def uncordon(self, name: str) -> None:
        self.take(NodeUncordoned(name, "ann"))

    @rule(name=node_ids)
    def drain(self, name: str) -> None:
        self.take(NodeDrainRequested(name, "ann", 1.0))

    @rule(name=node_ids)
    def measure(self, name: str) -> None:
        self.take(UsageReported(f"host-{name}", USAGE))

    @rule(lease_id=lease_ids, name=node_ids, gpus=st.sampled_from([0.5, 1.0, 2.0, 3.0]))
    def ask_for_a_lease(self, lease_id: str, name: str, gpus: float) -> None:
        try:
            self.ledger.check_lease(lease(lease_id, gpus, name))
        except (RejectedError, UnknownNameError):
            return
        self.take(LeaseGranted(lease(lease_id, gpus, name), "ann"))

    @rule(lease_id=lease_ids)
    def release(self, lease_id: str) -> None:
        self.take(LeaseReleased(lease_id, "ann"))

    @invariant()
    def leases_never_exceed_what_their_node_has(self) -> None:
        snapshot = self.ledger.snapshot()
        for each in snapshot.nodes:
            assert sum(held.demand["GPU"] for held in snapshot.leases if held.node_id == each.node_id) <= each.total["GPU"]
        assert {held.node_id for held in snapshot.leases} <= {each.node_id for each in snapshot.nodes}

    @invariant()
    def the_journal_gives_the_same_state_back(self) -> None:
        restarted = Ledger("hot")
        for fact in self.journal:
            restarted.handle(fact)
        restarted.handle(self.seen)
        assert without_telemetry(restarted.snapshot()) == without_telemetry(self.ledger.snapshot())


LedgerOverTime.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestLedgerOverTime = LedgerOverTime.TestCase
