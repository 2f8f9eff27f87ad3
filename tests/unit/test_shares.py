"""How many CPUs and what share of a card a call asks for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pools import telemetry
from profiler.needs import Needs, Use
from profiler.shares import LEAST_RUNS, cpus, gpus

GB = 10**9


def used(*uses: Use) -> Needs:
    return Needs(uses=list(uses))


def test_few_runs_change_nothing() -> None:
    needs = used(*[Use(0.1, 0.1, GB)] * (LEAST_RUNS - 1))
    assert cpus(needs) is None
    assert gpus(needs, 80 * GB) is None


@pytest.mark.parametrize(("busy", "amount"), [(0.02, 0.25), (0.4, 0.5), (0.98, 1.0), (1.02, 1.0), (1.6, 2.0), (3.5, 4.0), (7.2, 8.0)])
def test_cpus_are_what_was_kept_busy_in_amounts_that_ray_takes(busy: float, amount: float) -> None:
    share = cpus(used(*[Use(busy)] * 41))
    assert share is not None
    assert share.amount == amount
    assert share.sum == f"CPUs: p95 of 41 runs: {busy:.2g} + 10%, {amount:g}"


def test_one_run_in_fifty_does_not_decide() -> None:
    share = cpus(used(*[Use(0.9)] * 49, Use(16.0)))
    assert share is not None
    assert share.amount == 1.0


@pytest.mark.parametrize(
    ("busy", "held", "amount"), [(0.05, GB, 0.125), (0.05, 30 * GB, 0.5), (0.7, GB, 1.0), (0.2, 5 * GB, 0.25), (1.0, 79 * GB, 1.0)]
)
def test_a_share_of_a_card_covers_its_memory_and_its_use(busy: float, held: int, amount: float) -> None:
    share = gpus(used(*[Use(1.0, busy, held)] * 10), 80 * GB)
    assert share is not None
    assert share.amount == amount


def test_runs_without_a_card_say_nothing_of_cards() -> None:
    assert gpus(used(*[Use(1.0)] * 50), 80 * GB) is None
    assert gpus(used(*[Use(1.0, 0.1, GB)] * 50), None) is None


class FakeNvml:
    NVMLError = RuntimeError

    def __init__(self, *cards: dict[str, Any]) -> None:
        self.cards = cards

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        return self.cards[index]

    def nvmlDeviceGetUtilizationRates(self, card: Any) -> Any:
        if "busy" not in card:
            raise RuntimeError("Not Supported")
        return SimpleNamespace(gpu=card["busy"])

    def nvmlDeviceGetComputeRunningProcesses(self, card: Any) -> Any:
        return [SimpleNamespace(pid=pid, usedGpuMemory=held) for pid, held in card["held"].items()]

    def nvmlDeviceGetMemoryInfo(self, card: Any) -> Any:
        return SimpleNamespace(used=sum(card["held"].values()))


@pytest.mark.parametrize(
    ("indices", "expected"),
    [((0,), (0.5, 3 * GB)), ((0, 1), (0.75, 7 * GB)), ((1,), (1.0, 4 * GB)), ((2,), (None, None))],
    ids=["own process", "two cards", "another process id: all of it", "a card that does not say"],
)
def test_cards_are_read_for_one_process(
    monkeypatch: pytest.MonkeyPatch, indices: tuple[int, ...], expected: tuple[float | None, int | None]
) -> None:
    nvml = FakeNvml({"busy": 50, "held": {7: 3 * GB, 8: 9 * GB}}, {"busy": 100, "held": {99: 4 * GB}}, {"held": {}})
    monkeypatch.setattr(telemetry, "load_nvml", lambda: nvml)
    assert telemetry.read_cards(indices, 7) == expected


def test_without_a_driver_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "load_nvml", lambda: None)
    assert telemetry.read_cards((0,), 7) == (None, None)
