"""Who adopts, who leaves, who waits: the decisions of a lot of parked processes, on a clock of the test's own."""

from __future__ import annotations

import itertools
from typing import TypeVar

import pytest

from fabric.errors import FabricError, ModelError, RejectedError, RuntimeFault
from serve_apps.parking.book import LotBook
from serve_apps.parking.facts import (
    Adopt,
    AdoptionFailed,
    AskReplica,
    Command,
    Dropped,
    Ended,
    Event,
    Fork,
    Parked,
    Refuse,
    ReplicaGone,
    ReplicaRegistered,
    Retire,
    SlotId,
    StartZygote,
    Ticked,
    Used,
    Wanted,
    WentLive,
    ZygoteLost,
    ZygoteReady,
)
from serve_apps.parking.rules import ModelVersion, Rules

T = TypeVar("T")
A, B, C = (ModelVersion(name, "1") for name in "abc")
RULES = Rules(num_cpus=2, max_parked=2, idle_s=60, ask_after_s=10, ask_at_in_flight=4, ask_again_s=60, wait_s=5, settle_s=0.3)


class Lot:
    """A book with processes that do at once what they are told, except where a test says otherwise."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.book = LotBook(rules)
        self.now_s = 100.0
        self.told: list[Command] = []
        self.is_forking = True

    def tell(self, *events: Event, after_s: float = 0.0) -> list[Command]:
        """What the book orders in answer; forks are carried out."""
        self.now_s += after_s
        commands: list[Command] = []
        for event in events:
            commands += self.book.handle(event, now_s=self.now_s)
        self.told += commands
        for command in commands:
            if isinstance(command, Fork) and self.is_forking:
                commands += self.tell(Parked(command.slot))
        return commands

    def wake(self, model: ModelVersion, after_s: float = 0.0) -> SlotId:
        """Adopted, live, its first request answered."""
        adopt = only(self.tell(Wanted(model), after_s=after_s), Adopt)
        self.tell(WentLive(adopt.slot), Used(adopt.slot, 0))
        self.tell(Ticked(), after_s=1.0)
        return adopt.slot


def only(commands: list[Command], kind: type[T]) -> T:
    (found,) = [each for each in commands if isinstance(each, kind)]
    return found


def some(commands: list[Command], kind: type[T]) -> list[T]:
    return [each for each in commands if isinstance(each, kind)]


def refused(commands: list[Command]) -> FabricError:
    return only(commands, Refuse).error


@pytest.fixture
def lot() -> Lot:
    lot = Lot()
    assert lot.tell(Ticked()) == [StartZygote()]
    lot.tell(ZygoteReady())
    return lot


def test_one_process_is_parked_for_each_cpu(lot: Lot) -> None:
    assert lot.book.num_parked == 2
    assert lot.tell(Ticked()) == []


def test_a_large_node_parks_no_more_than_the_rules_allow() -> None:
    lot = Lot(Rules(num_cpus=64, max_parked=3))
    lot.tell(Ticked(), ZygoteReady())
    assert lot.book.num_parked == 3


def test_a_request_makes_a_parked_process_adopt_its_model_and_a_second_request_changes_nothing(lot: Lot) -> None:
    adopt = only(lot.tell(Wanted(A)), Adopt)
    assert adopt.model == A
    assert lot.tell(Wanted(A)) == []
    lot.tell(WentLive(adopt.slot))
    assert lot.book.slot_of(A) == adopt.slot


def test_nothing_is_forked_beside_a_model_that_wakes(lot: Lot) -> None:
    lot.is_forking = False
    first, second = (only(lot.tell(Wanted(model)), Adopt).slot for model in (A, B))
    assert some(lot.tell(WentLive(first), WentLive(second)), Fork) == []
    assert len(some(lot.tell(Ticked(), after_s=RULES.settle_s + 0.01), Fork)) == 1, "both CPUs are taken: one more process is kept ready"


def test_a_fork_goes_ahead_where_a_model_waits_and_no_process_is_parked() -> None:
    lot = Lot(Rules(num_cpus=2, max_parked=1))
    lot.tell(Ticked(), ZygoteReady())
    lot.tell(Wanted(A))
    assert only(lot.tell(Wanted(B)), Adopt).model == B


def test_the_least_recently_used_model_leaves_when_all_cpus_are_taken(lot: Lot) -> None:
    first, second = lot.wake(A), lot.wake(B)
    lot.tell(Used(first, 0))
    commands = lot.tell(Wanted(C))
    assert only(commands, Retire).slot == second
    assert only(commands, Adopt).model == C


def test_a_model_that_answers_requests_never_leaves_for_another(lot: Lot) -> None:
    first, second = lot.wake(A), lot.wake(B)
    lot.tell(Used(first, 1), Used(second, 2))
    assert lot.tell(Wanted(C)) == []
    commands = lot.tell(Used(second, 0))
    assert (only(commands, Retire).slot, only(commands, Adopt).model) == (second, C)


def test_a_request_that_finds_no_process_for_too_long_is_told_to_come_again(lot: Lot) -> None:
    first, second = lot.wake(A), lot.wake(B)
    lot.tell(Used(first, 1), Used(second, 1))
    lot.tell(Wanted(C))
    assert some(lot.tell(Ticked(), after_s=RULES.wait_s - 0.1), Refuse) == []
    error = refused(lot.tell(Ticked(), after_s=0.2))
    assert isinstance(error, RejectedError) and error.code == "no_free_process" and error.retry_after_s


def test_a_request_on_a_node_without_zygote_fails_as_a_fault_of_the_machine() -> None:
    lot = Lot()
    lot.tell(Wanted(A))
    error = refused(lot.tell(Ticked(), after_s=RULES.wait_s))
    assert isinstance(error, RuntimeFault) and error.code == "no_warm_process"


def test_a_model_without_requests_leaves(lot: Lot) -> None:
    slot = lot.wake(A)
    assert lot.tell(Ticked(), after_s=RULES.idle_s - 2) == []
    assert only(lot.tell(Ticked(), after_s=2), Retire).slot == slot
    assert lot.book.slot_of(A) is None


def test_a_model_may_have_an_idle_time_of_its_own(lot: Lot) -> None:
    adopt = only(lot.tell(Wanted(A, idle_s=5)), Adopt)
    lot.tell(WentLive(adopt.slot), Used(adopt.slot, 0))
    assert some(lot.tell(Ticked(), after_s=4.9), Retire) == []
    assert only(lot.tell(Ticked(), after_s=0.2), Retire).slot == adopt.slot


def test_a_long_request_keeps_its_model(lot: Lot) -> None:
    slot = lot.wake(A)
    lot.tell(Used(slot, 1))
    assert some(lot.tell(Ticked(), after_s=10 * RULES.idle_s), Retire) == []


def test_after_a_model_left_the_next_request_wakes_it_again(lot: Lot) -> None:
    slot = lot.wake(A)
    lot.tell(Ticked(), after_s=RULES.idle_s)
    lot.tell(Ended(slot, "exit status 0"))
    assert only(lot.tell(Wanted(A)), Adopt).slot != slot


# -- the way to a Serve replica --------------------------------------------------------------------------------------------


def test_serve_is_asked_for_a_replica_once_when_traffic_goes_on(lot: Lot) -> None:
    slot = lot.wake(A)
    asked = []
    for _ in range(20):
        asked += some(lot.tell(Used(slot, 0), Ticked(), after_s=1.0), AskReplica)
    assert [each.model for each in asked] == [A]


def test_serve_is_asked_at_once_when_several_requests_run_together(lot: Lot) -> None:
    slot = lot.wake(A)
    assert some(lot.tell(Used(slot, RULES.ask_at_in_flight - 1)), AskReplica) == []
    assert only(lot.tell(Used(slot, RULES.ask_at_in_flight)), AskReplica).model == A


def test_serve_is_asked_again_when_it_did_not_answer(lot: Lot) -> None:
    slot = lot.wake(A)
    lot.tell(Used(slot, 4))
    assert some(lot.tell(Ticked(), after_s=RULES.ask_again_s - 1), AskReplica) == []
    assert len(some(lot.tell(Ticked(), after_s=1), AskReplica)) == 1


def test_a_single_request_does_not_start_a_replica(lot: Lot) -> None:
    lot.wake(A)
    assert some(lot.tell(Ticked(), after_s=RULES.ask_after_s + 1), AskReplica) == []


def test_the_bridge_leaves_when_the_replica_answers_and_comes_back_when_it_is_gone(lot: Lot) -> None:
    slot = lot.wake(A)
    lot.tell(Used(slot, 3))
    assert only(lot.tell(ReplicaRegistered(A)), Retire).slot == slot
    lot.tell(Ended(slot, "exit status 0"), ReplicaGone(A))
    assert some(lot.tell(Wanted(A)), Refuse) == []


# -- what fails ------------------------------------------------------------------------------------------------------------


def test_a_constructor_that_raises_fails_its_requests_and_is_not_tried_again_at_once(lot: Lot) -> None:
    wrong = ModelError("no such file", code="constructor_failed")
    slot = only(lot.tell(Wanted(A)), Adopt).slot
    assert refused(lot.tell(AdoptionFailed(slot, wrong))) is wrong
    lot.tell(Ended(slot, "exit status 1"))
    assert refused(lot.tell(Wanted(A))) is wrong
    assert only(lot.tell(Wanted(A), after_s=RULES.backoff_s), Adopt).model == A


def test_each_failure_makes_the_next_pause_longer_up_to_a_limit(lot: Lot) -> None:
    pauses = []
    for _ in range(12):
        pause_s = 0.0
        while not (adopted := some(lot.tell(Wanted(A)), Adopt)):
            lot.now_s += 0.25
            pause_s += 0.25
        lot.tell(AdoptionFailed(adopted[0].slot, ModelError("wrong")), Ended(adopted[0].slot, "exit status 1"))
        pauses.append(pause_s)
    assert pauses[:6] == [0, 0.5, 1, 2, 4, 8]
    assert max(pauses) == RULES.most_backoff_s


def test_one_crash_of_a_loaded_model_costs_the_other_requests_no_pause_and_a_second_does(lot: Lot) -> None:
    slot = lot.wake(A)
    lot.tell(Ended(slot, "signal 11 (Segmentation fault)"))
    slot = lot.wake(A)
    lot.tell(Ended(slot, "signal 11 (Segmentation fault)"))
    error = refused(lot.tell(Wanted(A)))
    assert error.code == "model_crashed" and "signal 11" in error.message


def test_a_crash_after_a_long_life_counts_as_the_first(lot: Lot) -> None:
    for _ in range(3):
        slot = lot.wake(A)
        lot.tell(Used(slot, 0), after_s=RULES.sound_after_s - 5)
        lot.tell(Ended(slot, "signal 9 (Killed)"), after_s=10)
    lot.wake(A)


def test_a_process_that_dies_while_it_adopts_fails_the_requests_that_wait_for_it(lot: Lot) -> None:
    slot = only(lot.tell(Wanted(A)), Adopt).slot
    assert refused(lot.tell(Ended(slot, "signal 9 (Killed)"))).code == "model_crashed"


def test_one_model_that_crashes_leaves_the_others_alone(lot: Lot) -> None:
    other, slot = lot.wake(B), lot.wake(A)
    lot.tell(Ended(slot, "signal 11"))
    assert lot.book.slot_of(B) == other


def test_a_parked_process_that_dies_is_replaced(lot: Lot) -> None:
    assert len(some(lot.tell(Ended(SlotId(1), "signal 9 (Killed)")), Fork)) == 1
    assert lot.book.num_parked == 2


def test_children_that_die_before_they_park_are_not_forked_as_fast_as_they_die(lot: Lot) -> None:
    lot.is_forking = False
    forks = some(lot.tell(Ended(SlotId(1), "signal 9")), Fork)
    for _ in range(100):
        forks = [fork for each in forks for fork in some(lot.tell(Ended(each.slot, "exit status 1")), Fork)]
        forks += some(lot.tell(Ticked(), after_s=0.1), Fork)
    assert len(some(lot.told, Fork)) < 20


def test_a_lost_zygote_is_started_again_and_slower_each_time(lot: Lot) -> None:
    started_s = []
    commands = lot.tell(ZygoteLost())
    for _ in range(300):
        if some(commands, StartZygote):
            started_s.append(lot.now_s)
            commands = lot.tell(ZygoteLost())
        else:
            commands = lot.tell(Ticked(), after_s=0.1)
    gaps = [after - before for before, after in itertools.pairwise(started_s)]
    assert len(gaps) >= 4 and gaps == pytest.approx(sorted(gaps))


def test_a_request_that_waits_through_the_loss_of_the_zygote_is_served(lot: Lot) -> None:
    lot.tell(ZygoteLost(), *(Ended(SlotId(slot), "its zygote ended") for slot in (1, 2)))
    assert lot.tell(Wanted(A)) == []
    assert only(lot.tell(ZygoteReady(), after_s=1.0), Adopt).model == A


def test_a_model_that_is_dropped_leaves_and_whoever_waits_for_it_is_told(lot: Lot) -> None:
    slot = lot.wake(A)
    assert only(lot.tell(Dropped(A)), Retire).slot == slot
    only(lot.tell(Wanted(B)), Adopt)
    assert refused(lot.tell(Dropped(B))).code == "unloading"
