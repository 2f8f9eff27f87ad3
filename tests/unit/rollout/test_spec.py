"""What a rollout may be asked to do, and what is refused."""

import pytest

from fabric.errors import ConfigError, RejectedError, UnknownNameError, UserError
from serve_apps.rollout.documents import read_rollout
from serve_apps.rollout.guards import Guard, parse_guard, parse_guards
from serve_apps.rollout.spec import Canary, RolloutSpec, parse_steps, refuse_overlap


@pytest.mark.parametrize(
    ("text", "guard"),
    [
        ("latency_p95<=1.2x", Guard("latency_p95<=1.2x", "latency", True, 1.2, 0.0, 0.05)),
        ("latency_p95 <= 1.2x", Guard("latency_p95<=1.2x", "latency", True, 1.2, 0.0, 0.05)),
        ("latency_p99.9<=+20ms", Guard("latency_p99.9<=+20ms", "latency", True, 1.0, 20.0, 0.001)),
        ("latency_p50<=0.2s", Guard("latency_p50<=0.2s", "latency", True, 0.0, 200.0, 0.5)),
        ("latency_p90<=+10%", Guard("latency_p90<=+10%", "latency", True, 1.1, 0.0, 0.1)),
        ("error_rate<=+0.5%", Guard("error_rate<=+0.5%", "error_rate", True, 1.0, 0.005)),
        ("error_rate<=1%", Guard("error_rate<=1%", "error_rate", True, 0.0, 0.01)),
        ("error_rate<=1.5x", Guard("error_rate<=1.5x", "error_rate", True, 1.5, 0.0)),
        ("agreement>=0.98", Guard("agreement>=0.98", "agreement", False, 0.0, 0.98)),
        ("agreement>=98%", Guard("agreement>=98%", "agreement", False, 0.0, 0.98)),
        ("drift<=0.05", Guard("drift<=0.05", "drift", True, 0.0, 0.05)),
        ("cost_per_1000<=1x", Guard("cost_per_1000<=1x", "cost_per_1000", True, 1.0, 0.0)),
        ("cost_per_1000<=$0.40", Guard("cost_per_1000<=$0.40", "cost_per_1000", True, 0.0, 0.4)),
        ("metric:conversion>=-2%", Guard("metric:conversion>=-2%", "metric", False, 0.98, 0.0, name="conversion")),
        ("metric:revenue>=-0.10", Guard("metric:revenue>=-0.10", "metric", False, 1.0, -0.1, name="revenue")),
    ],
)
def test_a_guard_is_a_scale_of_the_champions_figure_and_a_shift(text: str, guard: Guard) -> None:
    assert parse_guard(text) == guard


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("latency_p59<1.2x", "bad_guard", "'<' is not a comparison"),
        ("latncy_p95<=1.2x", "unknown_guard_metric", "did you mean latency_p95?"),
        ("conversion>=-2%", "unknown_guard_metric", "metric:NAME"),
        ("latency_p95>=1.2x", "bad_guard", "better the lower"),
        ("agreement<=0.98", "bad_guard", "better the higher"),
        ("agreement>=+0.98", "bad_guard", "no sign"),
        ("latency_p95<=20%", "bad_guard", "needs a sign"),
        ("latency_p95<=12", "bad_guard", "no bound"),
        ("latency_p95<=0x", "bad_guard", "no version could"),
        ("error_rate<=250%", "bad_guard", "share from 0 to 1"),
        ("error_rate<=-0.5%", "bad_guard", "below the champion's"),
        ("drift<=$5", "bad_guard", "no bound"),
        ("metric:a b>=1x", "bad_guard", "not a guard"),
        ("", "bad_guard", "not a guard"),
    ],
)
def test_a_guard_that_means_nothing_is_refused_in_words(text: str, code: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_guard(text)
    assert caught.value.code == code
    assert words in caught.value.render()


def test_two_guards_on_one_metric_are_refused() -> None:
    with pytest.raises(UserError, match="2 guards on latency_p95"):
        parse_guards(["latency_p95<=1.2x", "latency_p95<=200ms"])


def test_without_guards_latency_and_errors_are_watched() -> None:
    assert [guard.text for guard in Canary().guards] == ["latency_p95<=1.2x", "error_rate<=+0.5%"]


@pytest.mark.parametrize("steps", ["1,5,25", "1%, 5%, 25%", [1, 5, 25], (1.0, 5.0, 25.0, 100.0)])
def test_steps_are_percentages_and_end_at_100(steps: str | list[float]) -> None:
    assert parse_steps(steps) == (1.0, 5.0, 25.0, 100.0)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("5,1", "steps must rise, and 1 comes after 5"),
        ("5,5", "must rise"),
        ("1,150", "not a percentage from 0.01 to 100"),
        ([0, 5], "not a percentage from"),
        ([True], "not a percentage"),
        ("1,x", "'x' is not a percentage"),
        ([], "1 to 50 steps, not 0"),
        ("", "not a percentage"),
        (7, "steps are 7"),
        (["nan"], "not a percentage"),
    ],
)
def test_steps_that_do_not_rise_to_100_are_refused(steps: object, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        Canary(steps=steps)  # type: ignore[arg-type]
    assert caught.value.code == "bad_rollout"


@pytest.mark.parametrize("given", [{"min_samples": 0}, {"max_surge": -1}, {"holdback": 50}, {"alpha": 0}, {"max_deaths": True}])
def test_other_values_out_of_range_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(UserError) as caught:
        Canary(**given)  # type: ignore[arg-type]
    assert caught.value.code == "bad_rollout"


def test_lengths_of_time_are_written_as_people_do() -> None:
    assert Canary(soak="2m", shadow_first="10m").shadow_first_s == 600.0
    with pytest.raises(UserError, match="not a length of time"):
        Canary(soak="soon")


def test_a_spec_comes_back_from_json() -> None:
    spec = Canary("1,10", ["metric:clicks>=-2%", "agreement>=0.9"], soak="5s", max_surge=0)
    assert RolloutSpec.from_json({**spec.as_json(), "of_a_later_release": 1}) == spec


def test_alpha_is_split_over_the_guards_that_chance_can_mislead() -> None:
    assert Canary(guards=["latency_p95<=1.2x", "agreement>=0.9", "cost_per_1000<=1x"]).guard_alpha == pytest.approx(0.015)


def test_where_a_guard_leaves_no_room_alpha_is_smaller() -> None:
    assert Canary(guards=["latency_p95<=1.2x", "metric:sales>=-2%"]).alpha == 0.03
    assert Canary(guards=["latency_p95<=1x"]).alpha == Canary(guards=["metric:sales>=1x"]).alpha == 0.01
    assert Canary(guards=["latency_p95<=1x"], alpha=0.05).alpha == 0.05


def test_one_rollout_of_a_model_at_a_time() -> None:
    refuse_overlap("bert", {"resnet": "a rollout to 3"})
    with pytest.raises(RejectedError, match="resnet has a rollout to 3 under way") as caught:
        refuse_overlap("resnet", {"resnet": "a rollout to 3"})
    assert caught.value.code == "rollout_running"


DOCUMENT = """
apiVersion: serving.example.com/v1
kind: Rollout
spec:
  model: resnet
  to: 3
  steps: [1, 10]
  guards: ["latency_p95<=1.2x"]
  soak: 2m
  shadowFirst: 10m
  maxSurge: 0
"""


def test_a_document_says_the_same_as_the_command_line() -> None:
    read = read_rollout(DOCUMENT)
    assert (read.model, read.to) == ("resnet", "3")
    assert read.spec == Canary("1,10", "latency_p95<=1.2x", soak="2m", shadow_first="10m", max_surge=0)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        (("soak:", "soaks:"), "unknown_rollout_key", "did you mean soak?"),
        (("kind: Rollout", "kind: Canary"), "bad_rollout", "must be Rollout"),
        (("[1, 10]", "[10, 1]"), "bad_rollout", "steps must rise"),
        (("to: 3", "to: [3]"), "bad_rollout", "must be a name"),
        (("spec:", "spec: ["), "rollout_not_yaml", "not YAML"),
        (("latency_p95", "latency"), "unknown_guard_metric", "did you mean"),
    ],
)
def test_a_document_that_is_wrong_says_where(change: tuple[str, str], code: str, words: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError)) as caught:
        read_rollout(DOCUMENT.replace(*change))
    assert caught.value.code == code
    assert words in caught.value.render()
