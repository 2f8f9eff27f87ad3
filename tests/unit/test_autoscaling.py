"""How many replicas a load asks for, when the autoscaler says so, and how replicas measure themselves."""

import pickle
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from fabric.errors import UnknownNameError, UserError
from serve_apps.autoscaling import record
from serve_apps.autoscaling.decide import LEAST_DWELL_S, Facts, Report, Scaler
from serve_apps.autoscaling.demand import Trend, latency_busy, latency_count, share_count
from serve_apps.autoscaling.meter import CpuMeter, ReplicaMeter
from serve_apps.autoscaling.record import Decision, explain_decision
from serve_apps.autoscaling.rule import Autoscale, parse_autoscale
from serve_apps.autoscaling.serve_policy import ServePolicy, facts_of, serve_options

CPU = Autoscale("cpu_utilization", 70.0, 2, 10)


@pytest.mark.parametrize(
    ("load", "current", "wanted"),
    [
        pytest.param(140.0, 1, 2, id="twice the target doubles"),
        pytest.param(70.0, 1, 1, id="on target stays"),
        pytest.param(150.0, 3, 2, id="two at 75 % are nearer than three at 50 %"),
        pytest.param(157.0, 2, 2, id="79 % is still good enough where one more would have 52 %"),
        pytest.param(166.0, 2, 3, id="83 % is not"),
        pytest.param(95.0, 1, 2, id="never far above the target, even where that is nearer to it"),
        pytest.param(525.0, 8, 8, id="seven would be hardly nearer: nothing changes"),
        pytest.param(500.0, 8, 7, id="seven are clearly nearer"),
        pytest.param(0.0, 4, 1, id="idle asks for one, the bounds do the rest"),
        pytest.param(2000.0, 2, 29, id="an overload is seen in full"),
    ],
)
def test_a_load_that_divides_asks_for_the_count_nearest_to_the_target(load: float, current: int, wanted: int) -> None:
    assert share_count(load, current, 70.0) == wanted


@pytest.mark.parametrize(
    ("latency_ms", "service_ms", "offered", "current", "target_ms", "wanted"),
    [
        pytest.param(200.0, 20.0, 0.9, 4, 100.0, 5, id="a queue is emptied by few replicas: 0.9 busy to 0.8"),
        pytest.param(2000.0, 20.0, 0.99, 4, 100.0, 5, id="ten times the latency does not ask for ten times the replicas"),
        pytest.param(9000.0, 20.0, 3.0, 4, 100.0, 15, id="falling behind asks for what came"),
        pytest.param(105.0, 20.0, 0.8, 4, 100.0, 4, id="near the target stays"),
        pytest.param(25.0, 20.0, 0.2, 4, 100.0, 2, id="hardly busy goes down"),
        pytest.param(60.0, 50.0, 0.1, 4, 40.0, 4, id="a target below the service time cannot be met: no wind-up"),
        pytest.param(0.0, 0.0, 0.0, 4, 100.0, 0, id="no request, no need"),
    ],
)
def test_latency_asks_for_replicas_as_a_queue_does(
    latency_ms: float, service_ms: float, offered: float, current: int, target_ms: float, wanted: int
) -> None:
    assert latency_count(latency_ms, service_ms, offered, current, target_ms) == wanted


def test_how_busy_a_queue_is_never_passes_one_unless_more_came_than_could_be_done() -> None:
    assert latency_busy(1e9, 10.0, 0.5) < 1.0
    assert latency_busy(100.0, 10.0, 2.5) == 2.5


def test_the_slope_is_that_of_a_ramp_and_never_of_a_step() -> None:
    ramp, step = Trend(8.0), Trend(8.0)
    for at in range(33):
        ramp.add(at * 0.25, 100.0 + 5.0 * at * 0.25)
        step.add(at * 0.25, 100.0 if at < 24 else 300.0)
    assert ramp.slope() == pytest.approx(5.0)
    assert step.slope() == 0.0


class World:
    """A model under one load per replica, looked at every 0.25 s; replicas start after `start_s`."""

    def __init__(self, rule: Autoscale, load: Callable[[float], float], *, start_s: float = 2.0, count: int | None = None) -> None:
        self.scaler, self.load, self.start_s = Scaler(rule), load, start_s
        self.ready = [-60.0 + index for index in range(rule.min if count is None else count)]
        self.wanted, self.now_s = len(self.ready), 0.0
        self.measured: dict[float, float] = {}

    def run(self, seconds: float, values: Callable[[float, int], Mapping[str, float]] | None = None, num_queued: float = 0.0) -> int:
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.now_s += 0.25
            running = [at_s for at_s in self.ready if at_s <= self.now_s]
            reports = {f"{at_s}": self._report(at_s, running, values) for at_s in running}
            facts = Facts(self.now_s, len(running), self.wanted, reports, num_queued)
            self._set(self.scaler.decide(facts))
        return self.wanted

    def _report(self, ready_s: float, running: list[float], values: Callable[[float, int], Mapping[str, float]] | None) -> Report:
        if values is not None:
            return Report(values(self.now_s, len(running)))
        if self.now_s == int(self.now_s):  # once a second
            self.measured[ready_s] = self.load(self.now_s) / len(running)
        return Report({self.scaler.rule.metric: self.measured[ready_s]} if ready_s in self.measured else {})

    def _set(self, wanted: int) -> None:
        self.ready += [self.now_s + self.start_s + 0.01 * extra for extra in range(wanted - self.wanted)]
        self.ready, self.wanted = sorted(self.ready)[:wanted], wanted


def test_a_step_up_is_met_at_once_and_once() -> None:
    world = World(CPU, lambda now_s: 140.0 if now_s <= 20 else 420.0)
    assert world.run(20) == 2
    assert world.run(15) == 6
    assert [one.num_to > one.num_from for one in world.scaler.records] == [True] * len(world.scaler.records)
    assert world.scaler.records[-1].reason == record.ABOVE_TARGET


def test_a_load_that_is_gone_is_followed_only_after_the_dwell() -> None:
    world = World(CPU, lambda now_s: 420.0 if now_s < 20 else 140.0, count=6)
    assert world.run(20 + LEAST_DWELL_S - 1) == 6
    assert world.run(10) == 2
    assert world.scaler.records[-1].reason == record.BELOW_TARGET


def test_a_dear_start_makes_removing_slower() -> None:
    def load(now_s: float) -> float:
        return 140.0 if now_s < 20 or now_s > 120 else 420.0

    cheap, dear = World(CPU, load, start_s=1.0), World(CPU, load, start_s=30.0)
    assert (cheap.run(120), dear.run(120)) == (6, 6)
    assert (cheap.run(8), dear.run(8)) == (2, 6)


def test_a_steady_rise_is_met_before_it_hurts() -> None:
    world = World(CPU, lambda now_s: 210.0 + 5.0 * max(0.0, now_s - 20), start_s=3.0, count=3)
    world.run(60)
    assert record.RISING in {one.reason for one in world.scaler.records}
    assert 60.0 <= world.load(60.0) / world.wanted <= 75.0


def test_a_spike_shorter_than_a_look_changes_nothing_for_long() -> None:
    world = World(CPU, lambda now_s: 560.0 if 20 <= now_s < 21 else 140.0)
    assert world.run(40) == 2


def test_a_load_between_two_counts_does_not_flap() -> None:
    world = World(CPU, lambda now_s: 525.0 + (12.0 if int(now_s) % 2 else -12.0), count=8)
    world.run(300)
    assert len(world.scaler.records) <= 2


def test_removals_that_had_to_be_undone_make_the_next_ones_later() -> None:
    world = World(CPU, lambda now_s: 420.0 if int(now_s / 10) % 2 else 140.0, count=6)
    world.run(90)
    num_first = len(world.scaler.records)
    world.scaler.records.clear()
    world.run(90)
    assert len(world.scaler.records) < num_first


def test_the_loading_of_a_new_replica_is_not_taken_for_load() -> None:
    scaler = Scaler(CPU)
    quiet = {name: Report({"cpu_utilization": 70.0}) for name in "ab"}
    assert scaler.decide(Facts(1.0, 2, 3, quiet)) == 3
    assert scaler.decide(Facts(2.0, 3, 3, {**quiet, "c": Report({"cpu_utilization": 900.0})})) == 3


def test_without_a_report_nothing_changes() -> None:
    scaler = Scaler(CPU)
    assert [scaler.decide(Facts(float(at), 3, 3, {})) for at in range(60)] == [3] * 60
    stale = {"a": Report({"cpu_utilization": 900.0}, 30.0)}
    assert scaler.decide(Facts(61.0, 3, 3, stale)) == 3


def test_the_answer_stays_within_the_bounds() -> None:
    assert World(CPU, lambda now_s: 5000.0).run(30) == 10
    assert World(CPU, lambda now_s: 0.0, count=6).run(60) == 2


def idle(now_s: float, _count: int) -> Mapping[str, float]:
    return {"cpu_utilization": 0.0, "idle_s": now_s}


def test_an_idle_model_goes_to_zero_and_a_request_wakes_it() -> None:
    world = World(Autoscale("cpu_utilization", 70.0, 0, 4, idle_s=30.0), lambda now_s: 0.0, count=1)
    assert world.run(29, idle) == 1
    assert world.run(3, idle) == 0
    assert world.run(60, idle) == 0
    assert world.run(1, idle, num_queued=1.0) == 1
    assert [one.reason for one in world.scaler.records] == [record.IDLE, record.WOKEN]


def test_a_wake_up_by_serve_itself_is_told_as_well() -> None:
    scaler = Scaler(Autoscale("cpu_utilization", 70.0, 0, 4))
    assert scaler.decide(Facts(0.0, 0, 0, {})) == 0
    assert scaler.decide(Facts(1.0, 0, 1, {}, num_queued=1.0)) == 1
    assert scaler.records[-1].as_json() | {"at": 0} == {
        "at": 0,
        "from": 0,
        "to": 1,
        "reason": "Woken",
        "metric": "cpu_utilization",
        "value": 1.0,
        "target": 70.0,
    }


def test_cpu_use_alone_never_takes_a_model_to_zero_nor_wakes_it() -> None:
    rule = Autoscale("cpu_utilization", 70.0, 0, 4, idle_s=1e6)
    assert World(rule, lambda now_s: 0.0, count=1).run(120) == 1


def busy_queue(now_s: float, count: int) -> Mapping[str, float]:
    """Replicas of 20 ms with work for 3.2 of them."""
    busy = min(0.99, 3.2 / count)
    return {
        "latency_p95_ms": 20.0 / (1.0 - busy),
        "service_p95_ms": 20.0,
        "requests_per_s": 160.0 / count,
        "offered": 1.0,
        "idle_s": 0.0,
    }


def test_a_latency_target_is_reached_without_winding_up() -> None:
    world = World(Autoscale("latency_p95", 80.0, 1, 50), lambda now_s: 0.0, count=2)
    world.run(180, busy_queue)
    assert 4 <= world.wanted <= 6
    assert busy_queue(0.0, world.wanted)["latency_p95_ms"] <= 100.0


def test_requests_per_replica_are_a_target_too() -> None:
    world = World(Autoscale("ongoing_requests", 8.0, 1, 20), lambda now_s: 64.0)
    assert world.run(20) == 8


# -- what replicas measure ---------------------------------------------------------------------------------------------------


def test_a_hundred_percent_is_all_of_the_cpu_that_a_replica_was_given() -> None:
    assert CpuMeter(num_cpus=0.1, cpu_s=5.0, now_s=100.0).read(cpu_s=5.2, now_s=102.0) == pytest.approx(100.0)
    assert CpuMeter(num_cpus=4, cpu_s=0.0, now_s=0.0).read(cpu_s=8.0, now_s=2.0) == pytest.approx(100.0)


def test_a_reading_covers_the_last_window_only() -> None:
    meter = CpuMeter(num_cpus=1, cpu_s=0.0, now_s=0.0, window_s=4.0)
    for now_s in range(1, 11):
        busy = meter.read(cpu_s=float(now_s), now_s=float(now_s))
    assert busy == pytest.approx(100.0)
    readings = [meter.read(cpu_s=10.0, now_s=float(now_s)) for now_s in range(11, 16)]
    assert readings == pytest.approx([75.0, 50.0, 25.0, 0.0, 0.0])


def test_two_readings_at_one_instant_do_not_divide_by_zero() -> None:
    assert CpuMeter(num_cpus=1, cpu_s=1.0, now_s=1.0).read(cpu_s=1.0, now_s=1.0) == 0.0


def test_a_replica_reports_its_use_its_requests_and_its_idleness() -> None:
    state = {"cpu_s": 3.0, "ongoing": 0}
    meter = ReplicaMeter(
        0.5, now_s=0.0, num_ongoing=lambda: int(state["ongoing"]), read_cpu_s=lambda: state["cpu_s"], read_gpu=lambda: 40.0
    )
    for at in range(1, 101):
        meter.note(at * 0.02, 0.030 if at % 10 else 0.200, 0.010)
    state["cpu_s"] = 3.5
    meter.forgive(0.25)
    told = meter.sample(2.0)
    assert told["cpu_utilization"] == pytest.approx(25.0)
    assert told["requests_per_s"] == pytest.approx(50.0)
    assert told["latency_p95_ms"] == pytest.approx(200.0)
    assert told["service_p95_ms"] == pytest.approx(10.0)
    assert told["offered"] == pytest.approx(1.0)
    assert (told["gpu_utilization"], told["idle_s"], told["ongoing_requests"]) == (40.0, 0.0, 0.0)
    assert meter.sample(20.0)["idle_s"] == pytest.approx(18.0)
    assert meter.sample(20.0)["latency_p95_ms"] == 0.0
    state["ongoing"] = 1
    assert meter.sample(21.0)["idle_s"] == 0.0


def test_a_replica_that_falls_behind_says_how_far() -> None:
    waiting = [0]
    meter = ReplicaMeter(1.0, now_s=0.0, num_ongoing=lambda: waiting[0], read_cpu_s=lambda: 0.0)
    for at in range(1, 51):
        meter.note(at * 0.1, 0.1, 0.1)
    waiting[0] = 50
    assert meter.sample(5.0)["offered"] == pytest.approx(2.0)


# -- inside Serve ------------------------------------------------------------------------------------------------------------


def context(values: Mapping[str, Mapping[str, float]], target: int, now_s: float, queued: float = 0.0) -> Any:
    series = {
        metric: {replica: [SimpleNamespace(value=value, timestamp=now_s - 0.5)] for replica, value in found.items()}
        for metric, found in values.items()
    }
    return SimpleNamespace(
        raw_metrics=series,
        current_num_replicas=len(next(iter(values.values()), {})),
        target_num_replicas=target,
        total_queued_requests=queued,
        current_time=now_s,
        app_name="resnet",
    )


def test_serves_context_becomes_facts() -> None:
    facts = facts_of(context({"cpu_utilization": {"r1": 90.0}, "idle_s": {"r1": 0.0}}, 2, 100.0, queued=1.5))
    assert facts == Facts(100.0, 1, 2, {"r1": Report({"cpu_utilization": 90.0, "idle_s": 0.0}, 0.5)}, 1.5)


def test_the_policy_keeps_its_records_in_serves_state() -> None:
    policy = ServePolicy(**serve_options(CPU)["policy_kwargs"])
    assert policy(context({"cpu_utilization": {"a": 70.0, "b": 70.0}}, 2, 10.0)) == (2, {"records": []})
    count, state = policy(context({"cpu_utilization": {"a": 140.0, "b": 140.0}}, 2, 14.0))
    assert count == 4
    assert [told["reason"] for told in state["records"]] == ["AboveTarget"]


def test_the_arguments_of_the_policy_are_plain_json() -> None:
    options = serve_options(parse_autoscale({"target": 50, "max": 3, "min": 0}), tell=("models", "fabric", "note_scaling"))
    assert options["policy_kwargs"]["tell"] == ["models", "fabric", "note_scaling"]
    assert options["upscale_delay_s"] == options["downscale_delay_s"] == options["downscale_to_zero_delay_s"] == 0.0
    assert pickle.loads(pickle.dumps(options)) == options


def test_a_decision_says_why_in_words() -> None:
    told = Decision(5.0, 2, 4, record.ABOVE_TARGET, "cpu_utilization", 131.2, 70.0).as_json()
    assert explain_decision(told) == "2 -> 4 replicas: cpu_utilization was 131 %, above the target of 70 %"
    assert explain_decision({**told, "from": 1, "to": 0, "reason": record.IDLE, "metric": "idle_s", "value": 61.0, "target": 60.0}) == (
        "1 -> 0 replicas: no request for 61 s, longer than 60 s"
    )


# -- what deploy takes -------------------------------------------------------------------------------------------------------


def test_autoscale_documents_are_read() -> None:
    given = {"metric": "cpu_utilization", "target": 70, "min": 2, "max": 10}
    assert parse_autoscale(given) == Autoscale(metric="cpu_utilization", target=70.0, min=2, max=10)
    assert parse_autoscale({"target": 50, "max": 3}) == Autoscale(metric="cpu_utilization", target=50.0, min=1, max=3)
    assert parse_autoscale({"metric": "latency_p95", "target": 250, "min": 0, "max": 3, "idle_s": 30}) == Autoscale(
        "latency_p95", 250.0, 0, 3, 30.0
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"metric": "gpu"}, "unknown_autoscale_metric"),
        ({"targt": 70}, "unknown_autoscale_key"),
        ({"target": 0}, "bad_autoscale"),
        ({"target": 101}, "bad_autoscale"),
        ({"target": "70"}, "bad_autoscale"),
        ({"metric": "latency_p95", "target": 0}, "bad_autoscale"),
        ({"min": -1}, "bad_autoscale"),
        ({"min": 4, "max": 3}, "bad_autoscale"),
        ({"max": 2.5}, "bad_autoscale"),
        ({"max": 0, "min": 0}, "bad_autoscale"),
        ({"idle_s": 0}, "bad_autoscale"),
    ],
)
def test_an_unsound_autoscale_is_refused(change: dict[str, Any], code: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_autoscale({"metric": "cpu_utilization", "target": 70, "min": 1, "max": 10, **change})
    assert caught.value.code == code


def test_a_misspelt_key_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse_autoscale({"targt": 70, "max": 3})
    assert caught.value.hint == "did you mean target?"


@pytest.mark.parametrize("missing", ["target", "max"])
def test_target_and_max_cannot_be_left_out(missing: str) -> None:
    given = {"target": 70, "max": 3}
    del given[missing]
    with pytest.raises(UserError, match=missing):
        parse_autoscale(given)
