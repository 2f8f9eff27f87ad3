"""What constructing, planning and serving a ModelService means, without Ray."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle  # type: ignore[import-untyped]
import numpy
import pytest

from fabric.errors import ModelError, UserError
from serve_apps import ModelService
from serve_apps.autoscaling.rule import Autoscale
from serve_apps.declare import batched
from serve_apps.model_service import Capture
from serve_apps.multi_model import MultiModelService
from serve_apps.plan import plan_deploy, service_name
from serve_apps.serve_options import ServeOptions
from serve_apps.simple_json import to_json

built: list[tuple[Any, ...]] = []


class Doubler(ModelService):
    def __init__(self, factor: int, *, name: str = "d") -> None:
        built.append((factor, name))
        self.factor = factor

    def predict(self, number: int, times: int = 1) -> int:
        return number * self.factor * times


class WithoutPredict(ModelService):
    pass


@pytest.fixture(autouse=True)
def nothing_built() -> Iterator[None]:
    built.clear()
    yield
    built.clear()


def test_importing_the_package_brings_in_neither_ray_nor_a_runtime() -> None:
    code = "import sys, serve_apps; serve_apps.ModelService; print([m for m in ('ray', 'onnxruntime') if m in sys.modules])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_load_model_is_the_function_however_its_module_was_first_imported() -> None:
    code = "import serve_apps.load_model; from serve_apps import load_model; print(callable(load_model))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "True"


def test_constructing_a_service_captures_and_builds_nothing() -> None:
    service = Doubler(3, name="x")
    assert built == []
    assert isinstance(service, Doubler)
    assert not hasattr(service, "factor")


def test_local_builds_and_runs_here() -> None:
    service = Doubler(3, name="x").local()
    assert built == [(3, "x")]
    assert service.predict(5) == 15


def test_a_local_service_cannot_be_deployed() -> None:
    with pytest.raises(UserError) as caught:
        Doubler(3).local().deploy()
    assert caught.value.code == "already_built"


@pytest.mark.parametrize("use", [lambda s: s.predict(1), lambda s: s.url, lambda s: s.delete()], ids=["predict", "url", "delete"])
def test_what_needs_a_deployed_service_says_how_to_get_one(use: Any) -> None:
    with pytest.raises(UserError) as caught:
        use(Doubler(3))
    assert caught.value.code == "not_deployed"
    assert ".deploy()" in (caught.value.hint or "")
    assert ".local()" in (caught.value.hint or "")


def test_wrong_constructor_arguments_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="missing a required argument: 'factor'") as caught:
        Doubler()  # type: ignore[call-arg]
    assert caught.value.code == "bad_arguments"


def test_a_class_without_predict_is_refused() -> None:
    with pytest.raises(UserError, match="WithoutPredict has no predict method") as caught:
        WithoutPredict()
    assert caught.value.code == "no_predict"


def test_a_captured_service_and_its_class_survive_pickling_by_value() -> None:
    class Inner(ModelService):
        def __init__(self, word: str) -> None:
            self.word = word

        def predict(self) -> str:
            return self.word

    copy = cloudpickle.loads(cloudpickle.dumps(Capture(Inner, ("hello",), {})))
    assert copy.build().predict() == "hello"
    again = cloudpickle.loads(cloudpickle.dumps(Inner("hello")))
    assert again.local().predict() == "hello"


@pytest.mark.parametrize(
    ("cls_name", "name"),
    [("TextClassifier", "text-classifier"), ("OCRModel", "ocr-model"), ("Bert2Small", "bert2-small"), ("my_model", "my-model"), ("A", "a")],
)
def test_services_are_named_after_their_class(cls_name: str, name: str) -> None:
    assert service_name(type(ModelService)(cls_name, (ModelService,), {})) == name  # type: ignore[misc]


def test_a_plan_has_sensible_defaults() -> None:
    plan = plan_deploy(Doubler)
    assert (plan.name, plan.replicas, plan.autoscale, plan.num_cpus, plan.tier) == ("doubler", 1, None, 0.1, None)
    scaled = plan_deploy(Doubler, autoscale={"target": 70, "min": 2, "max": 10})
    assert scaled.replicas == 2
    assert scaled.autoscale == Autoscale("cpu_utilization", 70.0, 2, 10)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"replicas": 0}, "bad_replicas"),
        ({"replicas": 1.5}, "bad_replicas"),
        ({"replicas": True}, "bad_replicas"),
        ({"replicas": 1, "autoscale": {"target": 70, "min": 2, "max": 4}}, "bad_replicas"),
        ({"replicas": 5, "autoscale": {"target": 70, "min": 2, "max": 4}}, "bad_replicas"),
        ({"autoscale": {"target": 70, "maximum": 4}}, "unknown_autoscale_key"),
        ({"name": "Text Classifier"}, "bad_name"),
        ({"name": ""}, "bad_name"),
        ({"num_cpus": 0}, "bad_num_cpus"),
        ({"timeout_s": -1}, "bad_timeout_s"),
        ({"port": 0}, "bad_port"),
        ({"port": 70000}, "bad_port"),
        ({"max_queued": -1}, "bad_max_queued"),
        ({"max_batch_size": 2.5}, "bad_max_batch_size"),
        ({"latency_budget_ms": 0}, "bad_latency_budget_ms"),
        ({"max_concurrency": 0}, "bad_max_concurrency"),
        ({"inline": 1}, "bad_inline"),
        ({"max_batchsize": 4}, "unknown_serve_option"),
        ({"latency_target_ms": 0}, "bad_latency_target_ms"),
        ({"domain": "audio"}, "unknown_domain"),
    ],
)
def test_unsound_deploy_arguments_are_refused(arguments: dict[str, Any], code: str) -> None:
    with pytest.raises(UserError) as caught:
        plan_deploy(Doubler, **arguments)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (numpy.array([[1.5, 2.0]], dtype=numpy.float32), [[1.5, 2.0]]),
        (numpy.int64(3), 3),
        (numpy.float32(0.5), 0.5),
        (numpy.bool_(True), True),
        (numpy.array(["a"], dtype=object), ["a"]),
        ({"label": numpy.array([1]), 2: (1, None)}, {"label": [1], "2": [1, None]}),
        (float("nan"), None),
        (numpy.array([numpy.inf, 1.0]), [None, 1.0]),
        (b"bytes", "bytes"),
    ],
)
def test_results_become_json(value: Any, expected: Any) -> None:
    assert to_json(value) == expected
    assert type(to_json(value)) is type(expected)


def test_a_result_without_a_form_in_json_is_named() -> None:
    with pytest.raises(ModelError, match="object"):
        to_json({"a": object()})


class Pipeline(ModelService):
    """One service that calls two others, of which one is the same twice."""

    def __init__(self, first: Doubler, *, second: Doubler) -> None:
        self.first, self.second = first, second

    def predict(self, number: int) -> int:
        return self.second.predict(self.first.predict(number))


def test_a_service_among_the_arguments_is_built_here_once_and_called() -> None:
    part = Doubler(3)
    whole = Pipeline(part, second=part).local()
    assert built == [(3, "d")]
    assert whole.first is whole.second
    assert whole.predict(2) == 18


def test_a_service_whose_part_is_not_deployed_is_refused() -> None:
    with pytest.raises(UserError, match="Pipeline calls Doubler") as caught:
        Pipeline(Doubler(1), second=Doubler(2)).deploy()
    assert caught.value.code == "part_not_deployed"


class DeployedAway:
    """Stands for a deployed service; answers with the arguments that it was given."""

    def predict(self, arguments: dict[str, Any]) -> Any:
        return [arguments]


def test_a_remote_predict_is_called_as_it_is_written() -> None:
    class Later(ModelService):
        async def predict(self, x: int, **more: int) -> int: ...

    class Items(ModelService):
        def predict(self, x: int) -> Iterator[int]:
            yield x

    class ItemsLater(ModelService):
        async def predict(self, x: int) -> Any:
            yield x

    def away(service: Any) -> Any:
        service._live = DeployedAway()
        return service

    async def all_later() -> list[Any]:
        return [item async for item in away(ItemsLater()).predict(3)]

    assert away(Doubler(1)).predict(1, times=2) == [{"number": 1, "times": 2}]
    assert asyncio.run(away(Later()).predict(1, y=2)) == [{"x": 1, "y": 2}]
    assert list(away(Items()).predict(2)) == [{"x": 2}]
    assert asyncio.run(all_later()) == [{"x": 3}]
    with pytest.raises(TypeError):
        away(Items()).predict()


class Rows(ModelService):
    max_queued = 7

    @batched(max_batch_size=16, latency_budget_ms=20)
    def predict(self, x: list[str]) -> list[str]:
        return x


def test_a_class_declares_options_and_deploy_overrides_them() -> None:
    plan = plan_deploy(Rows, latency_budget_ms=5.0, cache_bytes=100)
    assert plan.options == ServeOptions(max_queued=7, max_batch_size=16, latency_budget_ms=5.0, cache_bytes=100)
    assert plan.as_settings()["options"] == {"max_queued": 7, "max_batch_size": 16, "latency_budget_ms": 5.0, "cache_bytes": 100}
    assert ServeOptions(**plan.as_settings()["options"]) == plan.options


def test_annotations_are_resolved_where_the_class_is_defined() -> None:
    class Inner(ModelService):
        def predict(self, x: "list[str]", y: "NoSuchName") -> "int": ...  # type: ignore[name-defined] # noqa: F821

    assert vars(Inner())["_capture"].hints == {"x": list[str], "return": int}


class Pool(MultiModelService):
    max_models = 2
    loaded: ClassVar[list[str]] = []
    closed: ClassVar[list[str]] = []

    def load(self, model_id: str) -> Any:
        self.loaded.append(model_id)

        class Model:
            def close(self) -> None:
                Pool.closed.append(model_id)

        return Model()

    def predict(self, number: int, model_id: str) -> bool:
        return self.model(model_id) is not None


def test_many_models_share_a_pool_and_the_least_used_one_makes_room() -> None:
    pool = Pool().local()
    assert all(pool.predict(1, model_id) for model_id in "abacab")
    assert pool.loaded == ["a", "b", "c", "b"]
    assert pool.closed == ["b", "c"]
