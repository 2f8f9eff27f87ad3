"""What kind of work a call is: a labelled table of real calls, and the calls that refuse to be looked at."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import logging
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pyarrow
import pytest
from onnx import TensorProto, helper

from fabric.errors import UnknownNameError
from profiler import rules as rules_module
from profiler.fingerprint import fingerprint, fingerprint_model
from profiler.model_facts import Sight, Tensor
from profiler.rules import RULES, Argument, Names, Rule, plugin_rules

pandas = pytest.importorskip("pandas")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("sklearn")
from sklearn.cluster import KMeans  # noqa: E402
from sklearn.ensemble import RandomForestClassifier  # noqa: E402
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "extend" / "add-a-fingerprint-rule.md"
DRAW = np.random.default_rng(7)

TABLE = DRAW.normal(size=(40, 6))
LABELS = (TABLE[:, 0] > 0).astype(np.int64)
PHOTO = DRAW.integers(0, 256, (224, 224, 3), dtype=np.uint8)
TOKENS = np.array([[101, 2023, 3185, 2001, 2307, 1998, 4569, 102, 0, 0], [101, 1045, 5223, 2009, 102, 0, 0, 0, 0, 0]])
REVIEWS = ["This film was a delight from start to finish.", "I would not watch it again, even for money."]
ROWS = [{"age": 31, "income": 52000.0, "city": "Oslo"}, {"age": 58, "income": 41000.0, "city": "Bergen"}]
FRAME = pandas.DataFrame({"age": [31, 58], "income": [52000.0, 41000.0]})


def jpeg() -> bytes:
    out = io.BytesIO()
    Image.fromarray(PHOTO).save(out, "JPEG")
    return out.getvalue()


def onnx_session(name: str, dtype: int, shape: list[int | str]) -> Any:
    """A real session whose model is one Identity node."""
    given, made = helper.make_tensor_value_info(name, dtype, shape), helper.make_tensor_value_info("y", dtype, shape)
    graph = helper.make_graph([helper.make_node("Identity", [name], ["y"])], "g", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


VISION_SESSION = onnx_session("x", TensorProto.FLOAT, ["n", 3, 32, 32])
LANGUAGE_SESSION = onnx_session("input_ids", TensorProto.INT64, ["n", "seq"])
TABLE_SESSION = onnx_session("x", TensorProto.FLOAT, ["n", 12])
TABLE_MODEL = LogisticRegression().fit(TABLE, LABELS)
FOREST = RandomForestClassifier(n_estimators=2).fit(TABLE, LABELS)
TEXT_PIPELINE = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(REVIEWS, [1, 0])
TABLE_PIPELINE = make_pipeline(StandardScaler(), LogisticRegression()).fit(TABLE, LABELS)


# The callables below are looked at, never run; those that import a library that is not installed are written as its users write them.


def identity(x: Any) -> Any:
    return x


def run_vision_session(x: Any) -> Any:
    return VISION_SESSION.run(None, {"x": x})


def run_language_session(x: Any) -> Any:
    return LANGUAGE_SESSION.run(None, {"input_ids": x})


def run_table_session(x: Any) -> Any:
    return TABLE_SESSION.run(None, {"x": x})


def brighten(image: Any, gain: float) -> Any:
    return np.clip(image * gain, 0, 1)


def thumbnail(path: str) -> Any:
    from PIL import Image as pil

    return pil.open(path).resize((64, 64))


def tag(path: str) -> Any:
    import torch
    import torchvision

    net = torchvision.models.resnet18(weights="DEFAULT")
    with torch.no_grad():
        return net.eval()(torchvision.io.read_image(path))


def train_network(loader: Any, epochs: int) -> Any:
    import torch
    from torchvision import models

    net = models.resnet18()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
    return net


def tf_step(x: Any, y: Any, model: Any) -> Any:
    import tensorflow as tf

    with tf.GradientTape() as tape:
        value = tf.reduce_mean((model(x) - y) ** 2)
    return tape.gradient(value, model.trainable_variables)


def finetune(name: str) -> Any:
    from transformers import AutoModelForSequenceClassification, Trainer

    return Trainer(model=AutoModelForSequenceClassification.from_pretrained(name)).train()


def answer(prompt: str, max_new_tokens: int = 64) -> Any:
    from transformers import pipeline

    return pipeline("text-generation")(prompt, max_new_tokens=max_new_tokens)


def count_words(document: str) -> int:
    return len(document.split())


def entities(text: str) -> Any:
    import spacy

    return spacy.load("en_core_web_sm")(text).ents


def train_digits(c: float) -> Any:
    from sklearn.datasets import load_digits

    data = load_digits()
    return LogisticRegression(C=c).fit(data.images.reshape(-1, 64), data.target)


def train_churn(path: str) -> Any:
    frame = pandas.read_csv(path)
    return RandomForestClassifier().fit(frame.drop(columns="churn"), frame["churn"])


def boost(data: Any, params: dict[str, Any]) -> Any:
    import xgboost

    return xgboost.train(params, data)


def stream_batches(model: Any, batches: Any) -> Any:
    for x, y in batches:
        model.partial_fit(x, y)
    return model


def score(model: Any, x: Any) -> Any:
    return model.predict_proba(x)[:, 1]


def total_by_city(path: str) -> Any:
    return pandas.read_parquet(path).groupby("city").sum()


def _one_epoch(net: Any, batch: Any, opt: Any) -> None:
    value = net(batch).mean()
    value.backward()
    opt.step()


def campaign(net: Any, batches: Any, opt: Any) -> None:
    for batch in batches:
        _one_epoch(net, batch, opt)


def logged(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return fn(*args, **kwargs)

    return wrapper


def closed_over(session: Any) -> Callable[[Any], Any]:
    return lambda x: session.run(None, {"x": x})


def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def monte_carlo_pi(samples: int, seed: int) -> float:
    draw = np.random.default_rng(seed)
    return float(4 * np.mean(np.hypot(draw.random(samples), draw.random(samples)) < 1))


def solve(a: Any, b: Any) -> Any:
    return np.linalg.solve(a, b)


def shortest_path(adjacency: Any) -> Any:
    return adjacency @ adjacency


def checksum(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def configure(settings: dict[str, Any]) -> str:
    return json.dumps(settings)


def fetch(url: str, token: str) -> int:
    return len(url) + len(token)


def sort_ids(ids: list[int]) -> list[int]:
    return sorted(ids)


def run_query(query: str) -> str:
    return query.strip()


def simulate(state: Any, step: float) -> Any:
    return state + step


def edges(x: Any) -> Any:
    from scipy import ndimage

    return ndimage.sobel(x)


def evaluate(model: Any, loader: Any, loss_fn: Any) -> float:
    import torch

    with torch.no_grad():
        return sum(loss_fn(model(x), y) for x, y in loader)


def gradient_step(w: Any, features: Any, target: Any, lr: float = 0.1) -> Any:
    return w - lr * features.T @ (features @ w - target)


def matmul(a: Any, b: Any) -> Any:
    return a @ b


def life(board: Any) -> Any:
    return board


def send_mail(address: str, subject: str) -> int:
    return len(address) + len(subject)


def render(template: str, values: dict[str, Any]) -> str:
    return template.format(**values)


def impute(rows: Any) -> Any:
    return [row or 0 for row in rows]


class Tagger:
    """A model behind a method, as served classes hold theirs."""

    def __init__(self) -> None:
        self.session = VISION_SESSION

    def __call__(self, x: Any) -> Any:
        return self.session.run(None, {"x": x})

    def describe(self, x: Any) -> Any:
        return self.session.run(None, {"x": x})


class SentimentModel:
    def predict(self, x: Any) -> Any:
        return TEXT_PIPELINE.predict(x)


def layer(name: str, **attributes: Any) -> Any:
    """An object with the class name of a torch layer and torch's `_modules`, without torch."""
    made = type(name, (), {"forward": lambda self, x: x, "__call__": lambda self, x: x})()
    made.__dict__.update(training=False, _parameters={}, **attributes)
    return made


CNN = layer("Net", _modules={"0": layer("Conv2d", _modules={}), "1": layer("Linear", _modules={})})
BERT = layer("BertForSequenceClassification", _modules={"0": layer("BertModel", _modules={})})


@dataclass(frozen=True)
class Case:
    what: str
    fn: Any
    args: tuple[Any, ...]
    domain: str
    phase: str = "inference"
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    is_known_miss: bool = False


CASES = [
    # images
    Case("a uint8 photo", identity, (PHOTO,), "cv"),
    Case("a batch of float images, channels first", identity, (DRAW.random((8, 3, 224, 224), dtype=np.float32),), "cv"),
    Case("a batch of uint8 images, channels last", identity, (np.zeros((4, 96, 96, 3), np.uint8),), "cv"),
    Case("one float image, channels first", identity, (DRAW.random((3, 224, 224)),), "cv"),
    Case("a uint8 grey image", identity, (np.zeros((480, 640), np.uint8),), "cv"),
    Case("a float grey image by its parameter's name", brighten, (DRAW.random((120, 160)), 1.2), "cv"),
    Case("a wide float grey image", identity, (DRAW.random((480, 640)),), "cv"),
    Case("a stack of scaled digits", identity, (DRAW.random((50, 28, 28)),), "cv"),
    Case("a clip of frames", identity, (np.zeros((2, 16, 3, 112, 112), np.float32),), "cv"),
    Case("a PIL image", identity, (Image.fromarray(PHOTO),), "cv"),
    Case("a list of PIL images", identity, ([Image.fromarray(PHOTO)] * 3,), "cv"),
    Case("a list of uint8 photos", identity, ([PHOTO, PHOTO],), "cv"),
    Case("JPEG bytes", identity, (jpeg(),), "cv"),
    Case("a list of JPEG bytes", identity, ([jpeg()],), "cv"),
    Case("a processor's pixel values", identity, ({"pixel_values": PHOTO},), "cv"),
    Case("an image file's path", identity, ("/data/pets/cat 12.jpg",), "cv"),
    Case("Pillow imported in the function", thumbnail, ("/data/in",), "cv"),
    Case("torchvision inference", tag, ("x",), "cv"),
    Case("a torch training loop on a resnet", train_network, ([], 3), "cv", "training"),
    Case("a session whose model takes images", run_vision_session, ([],), "cv"),
    Case("a session in a closure", closed_over(VISION_SESSION), ([],), "cv"),
    Case("a session held by a method's object", Tagger().describe, ([],), "cv"),
    Case("a callable object that holds a session", Tagger(), ([],), "cv"),
    Case("a convolutional model as an argument", score, (CNN, []), "cv"),
    Case("digits fitted by a classic learner", train_digits, (1.0,), "cv", "training"),
    # text
    Case("a token matrix", identity, (TOKENS,), "nlp"),
    Case("a long token matrix", identity, (DRAW.integers(0, 30000, (512, 128)),), "nlp"),
    Case("a list of token ids", identity, ([101, 2023, 3185, 2001, 2307, 102],), "nlp"),
    Case("a batch of token lists", identity, ([[101, 2023, 3185, 2001, 2307, 102], [101, 1045, 5223, 2009, 999, 102]],), "nlp"),
    Case("a sentence", identity, (REVIEWS[0],), "nlp"),
    Case("a list of sentences", identity, (REVIEWS,), "nlp"),
    Case("an array of sentences", identity, (np.array(REVIEWS),), "nlp"),
    Case("a sentence without spaces", identity, ("今天的天气非常好我们去公园散步吧",), "nlp"),
    Case("an encoding of a tokenizer", identity, ({"input_ids": [[1, 2]], "attention_mask": [[1, 1]]},), "nlp"),
    Case("a chat", identity, ([{"role": "user", "content": "Hi"}],), "nlp"),
    Case("a prompt by its parameter's name", answer, ("Hi",), "nlp"),
    Case("spaCy in the function", entities, ("Oslo",), "nlp"),
    Case("words counted in a text", count_words, (REVIEWS[1],), "nlp"),
    Case("a session whose model takes token ids", run_language_session, ([],), "nlp"),
    Case("a fine-tuning of transformers", finetune, ("some-model",), "nlp", "training"),
    Case("a text pipeline's predict", TEXT_PIPELINE.predict, (REVIEWS,), "nlp"),
    Case("a text pipeline's fit", TEXT_PIPELINE.fit, (REVIEWS, [1, 0]), "nlp", "training"),
    Case("a vectorizer's fit_transform", TfidfVectorizer().fit_transform, (REVIEWS,), "nlp", "training"),
    Case("a text model behind a class", SentimentModel().predict, (["great", "awful"],), "nlp"),
    Case("a language model as an argument", score, (BERT, []), "nlp"),
    Case("hidden states of a transformer", identity, (DRAW.random((4, 16, 768)),), "nlp"),
    # tables
    Case("a float table", identity, (TABLE,), "tabular"),
    Case("a float matrix of 64 columns", identity, (DRAW.normal(size=(1797, 64)),), "tabular"),
    Case("a list of rows of floats", identity, ([[5.1, 3.5, 1.4, 0.2], [4.9, 3.0, 1.4, 0.2]],), "tabular"),
    Case("a data frame", identity, (FRAME,), "tabular"),
    Case("an Arrow table", identity, (pyarrow.table({"a": [1, 2], "b": [0.1, 0.2]}),), "tabular"),
    Case("records as dicts", identity, (ROWS,), "tabular"),
    Case("a dict of columns", identity, ({"age": [31, 58], "income": [52000.0, 41000.0]},), "tabular"),
    Case("a record array", identity, (np.zeros(10, dtype=[("age", "i4"), ("income", "f4")]),), "tabular"),
    Case("CSV text", identity, ("age,income\n31,52000\n58,41000\n",), "tabular"),
    Case("a CSV file into a forest", train_churn, ("/data/churn.csv",), "tabular", "training"),
    Case("a Parquet file grouped", total_by_city, (Path("/data/sales.parquet"),), "tabular"),
    Case("gradient boosting", boost, (None, {"eta": 0.1, "objective": "binary:logistic"}), "tabular", "training"),
    Case("a linear model's fit", LogisticRegression().fit, (TABLE, LABELS), "tabular", "training"),
    Case("a linear model's predict", TABLE_MODEL.predict, (TABLE,), "tabular"),
    Case("a forest's predict_proba", FOREST.predict_proba, (TABLE,), "tabular"),
    Case("a clustering", KMeans(2).fit_predict, (TABLE,), "tabular", "training"),
    Case("a scaled pipeline's predict", TABLE_PIPELINE.predict, (TABLE,), "tabular"),
    Case("a forest as an argument", score, (FOREST, TABLE), "tabular"),
    Case("a learner fed batch by batch", stream_batches, (LogisticRegression(), []), "tabular", "training"),
    Case("a partial that holds a forest", functools.partial(score, FOREST), (TABLE,), "tabular"),
    Case("a session whose model takes twelve features", run_table_session, ([],), "tabular"),
    Case("rows by their parameter's name", impute, (None,), "tabular"),
    # neither
    Case("a recursion on a number", fibonacci, (20,), "other"),
    Case("a Monte Carlo estimate", monte_carlo_pi, (1000, 7), "other"),
    Case("a linear system", solve, (DRAW.normal(size=(50, 50)), np.ones(50)), "other"),
    Case("an adjacency matrix", shortest_path, (DRAW.integers(0, 2, (40, 40)),), "other"),
    Case("small counts in an integer matrix", identity, (DRAW.poisson(3, (200, 30)),), "other"),
    Case("an integer matrix with negative values", identity, (DRAW.integers(-500, 500, (16, 64)),), "other"),
    Case("an integer matrix of timestamps", identity, (DRAW.integers(1_700_000_000, 1_700_900_000, (16, 64)),), "other"),
    Case("a signal", identity, (DRAW.normal(size=48000),), "other"),
    Case("a path", checksum, ("/data/my files are here/model.bin",), "other"),
    Case("hyper-parameters", configure, ({"learning_rate": 0.1, "depth": 6, "objective": "l2"},), "other"),
    Case("a URL and an access token", fetch, ("https://example.org/a b c d e", "s3cret"), "other"),
    Case("sorted ids", sort_ids, (list(range(100, 200)),), "other"),
    Case("a query", run_query, ("SELECT name FROM people WHERE age IN (SELECT max(age) FROM people)",), "other"),
    Case("a list of column names", identity, (["age", "income", "city"],), "other"),
    Case("a step of a simulation", simulate, (DRAW.normal(size=3), 0.1), "other"),
    Case("a square root", math.sqrt, (2.0,), "other"),
    Case("a sum of numpy", np.sum, (DRAW.normal(size=100),), "other"),
    Case("weights of a convolution", identity, (DRAW.normal(size=(64, 64, 3, 3)),), "other"),
    Case("a JSON document", identity, ('{"this is": "a document of words", "and": "of more words than one"}',), "other"),
    Case("a log line", identity, ("2024-01-01 12:00:00 ERROR [db] timeout=30 host=a1",), "other"),
    Case("square matrices multiplied", matmul, (DRAW.random((256, 256)), DRAW.random((256, 256))), "other"),
    # further calls, labelled before they were first tried; what they show does not decide the ones that are missed
    Case("an edge filter of SciPy", edges, (DRAW.random((256, 256)),), "cv"),
    Case("a batch of grey uint8 digits", identity, (np.zeros((32, 28, 28), np.uint8),), "cv"),
    Case("an evaluation with a loss", evaluate, (None, [], None), "other"),
    Case("a gradient step written by hand", gradient_step, (np.ones(8), DRAW.random((100, 8)), np.ones(100)), "tabular", "training"),
    Case("a data frame's groupby", FRAME.groupby, ("age",), "tabular"),
    Case("an oblong matrix product", matmul, (DRAW.random((300, 200)), DRAW.random((200, 100))), "other", is_known_miss=True),
    Case("a game's board of bytes", life, (DRAW.integers(0, 2, (128, 128), dtype=np.uint8),), "other", is_known_miss=True),
    Case("a mail's subject", send_mail, ("a@b.example", "Your invoice for March"), "other", is_known_miss=True),
    Case("a letter's template", render, ("Dear {name}, your total is {total}", {"name": "x"}), "nlp", is_known_miss=True),
    # phase alone
    Case("a gradient tape", tf_step, (None, None, None), "other", "training"),
    Case("gradients computed in a helper", campaign, (None, [], None), "other", "training"),
    Case("a wrapped training loop", logged(train_network), ([], 3), "cv", "training"),
]


# What is read of model files; `test_fingerprint_models.py` reads real ones.
SIGHTS = [
    Sight(("tokenembedding", "attention", "softmax"), ("pytorch",), (Tensor("input_ids", "int64", (1, 128)),)),
    Sight(("treeensembleclassifier",), ("ai.onnx.ml",), (Tensor("X", "float32", (1, 6)),)),
    Sight(("conv2d", "softmaxcrossentropyloss"), (), (Tensor("x", "float32", (8, 3, 32, 32)),)),
]


def seen(case: Case) -> tuple[str, str]:
    found = fingerprint(case.fn, case.args, case.kwargs)
    return found.domain, found.phase


MISS = pytest.mark.xfail(strict=True, reason="what the call shows does not decide it; its author should declare it")


@pytest.mark.parametrize("case", [pytest.param(case, id=case.what, marks=[MISS] * case.is_known_miss) for case in CASES])
def test_a_call_is_recognised(case: Case) -> None:
    assert seen(case) == (case.domain, case.phase), fingerprint(case.fn, case.args, case.kwargs).evidence


def test_at_least_95_percent_of_the_calls_are_recognised() -> None:
    misses = [f"{case.what}: {seen(case)} is not {(case.domain, case.phase)}" for case in CASES if seen(case) != (case.domain, case.phase)]
    print(f"{len(CASES) - len(misses)} of {len(CASES)}", *misses, sep="\n")
    assert len(CASES) >= 40
    assert len(misses) <= 0.05 * len(CASES), misses


def test_the_same_call_has_the_same_fingerprint_every_time() -> None:
    for case in CASES:
        assert fingerprint(case.fn, case.args, case.kwargs) == fingerprint(case.fn, case.args, case.kwargs)


def test_evidence_comes_strongest_first_and_names_the_rule() -> None:
    evidence = fingerprint(TEXT_PIPELINE.fit, (REVIEWS, [1, 0]), {}, domain="nlp").evidence
    assert evidence[0] == "declared: domain nlp"
    weights = [float(line.partition("+")[2].partition(":")[0]) for line in evidence[1:]]
    assert weights == sorted(weights, reverse=True)
    assert any("named for training (fit)" in line for line in evidence)


def test_evidence_never_quotes_the_text_or_the_path_of_the_user() -> None:
    for value in (REVIEWS[0], REVIEWS, "/data/secret/face.jpg", {"prompt": "my secret plan"}):
        evidence = " ".join(fingerprint(identity, (value,), {}).evidence)
        assert evidence
        assert not any(word in evidence for word in ("delight", "secret", "plan"))


def test_a_declared_domain_and_phase_win_over_all_evidence() -> None:
    found = fingerprint(train_network, (PHOTO, 3), {}, domain="tabular", phase="inference")
    assert (found.domain, found.phase) == ("tabular", "inference")
    assert found.evidence == ("declared: domain tabular", "declared: phase inference")


def test_a_declared_domain_leaves_the_phase_to_the_evidence() -> None:
    found = fingerprint(train_network, ([], 3), {}, domain="other")
    assert (found.domain, found.phase) == ("other", "training")
    assert not any(line.startswith("cv") for line in found.evidence)


def test_a_declared_phase_leaves_the_domain_to_the_evidence() -> None:
    found = fingerprint(train_network, ([], 3), {}, phase="inference")
    assert (found.domain, found.phase) == ("cv", "inference")


@pytest.mark.parametrize(
    ("declared", "code", "hint"), [({"domain": "nlq"}, "unknown_domain", "nlp"), ({"phase": "train"}, "unknown_phase", "training")]
)
def test_an_unknown_declared_value_is_an_error_with_the_nearest_known_one(declared: dict[str, Any], code: str, hint: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        fingerprint(identity, (), {}, **declared)
    assert caught.value.code == code
    assert hint in str(caught.value.hint)


class Refuses:
    """Raises on everything that one can ask of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        raise RuntimeError("hash")

    def __bool__(self) -> bool:
        raise RuntimeError("bool")

    def __len__(self) -> int:
        raise RuntimeError("len")

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("iter")

    def __repr__(self) -> str:
        raise RuntimeError("repr")


class RefusesAll(Refuses):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class RaisingShape:
    @property
    def shape(self) -> tuple[int, ...]:
        raise RuntimeError("not loaded")


class LazyMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(name)


def lazy_class() -> Any:
    """Made late: pytest itself would look at a class of this module."""
    return LazyMeta("Lazy", (), {})


def loop() -> list[Any]:
    knot: list[Any] = []
    knot.append(knot)
    return knot


class Slotted:
    __slots__ = ("x",)


def empty_cell() -> Callable[[], Any]:
    def inner() -> Any:
        return later

    if inner is None:
        later = 1
    return inner


EXOTIC: dict[str, Callable[[], Any]] = {
    "a raising __getattr__": Refuses,
    "a raising __getattribute__": RefusesAll,
    "a raising shape": RaisingShape,
    "a class that refuses": lazy_class,
    "an instance of a class that refuses": lambda: type.__call__(lazy_class()),
    "a list within itself": loop,
    "slots": Slotted,
    "a shape that is none": lambda: SimpleNamespace(shape="x", dtype=3),
    "an object": object,
    "type": lambda: type,
    "a C function": lambda: len,
    "a method of str": lambda: str.upper,
}


@pytest.mark.parametrize("make", EXOTIC.values(), ids=EXOTIC)
def test_an_object_that_refuses_to_be_looked_at_is_other_and_inference(make: Callable[[], Any]) -> None:
    value = make()
    for found in (fingerprint(identity, (value,), {}), fingerprint(value, (), {}), fingerprint(identity, (), {"x": [value]})):
        assert (found.domain, found.phase) == ("other", "inference")


NO_CODE = [len, "abc".upper, dict.get, int, Slotted, empty_cell(), np.linalg.norm, object(), None, 3]


@pytest.mark.parametrize("fn", NO_CODE, ids=[str(number) for number in range(len(NO_CODE))])
def test_what_has_no_code_of_its_own_is_other_and_inference(fn: Any) -> None:
    found = fingerprint(fn, (1,), {})
    assert (found.domain, found.phase) == ("other", "inference")


def test_a_refusing_argument_does_not_hide_the_others() -> None:
    assert fingerprint(lambda a, b: a, (RefusesAll(), PHOTO), {}).domain == "cv"


def test_an_endless_list_of_arguments_is_looked_at_in_part_only() -> None:
    class Counting(dict[str, Any]):
        reads = 0

        def __getitem__(self, key: str) -> Any:
            type(self).reads += 1
            return super().__getitem__(key)

    many = Counting((f"k{index}", index) for index in range(1000))
    fingerprint(identity, tuple(range(1000)), many)
    assert Counting.reads <= 16


def test_values_on_a_device_are_not_read() -> None:
    class OnDevice:
        shape, dtype, device = (4, 128), "torch.int64", "cuda:0"

        def __getitem__(self, index: Any) -> Any:
            raise AssertionError("read from the device")

    OnDevice.__module__ = "torch"
    assert fingerprint(identity, (OnDevice(),), {}).domain == "other"


def test_a_torch_tensor_in_memory_is_judged_as_an_array_is() -> None:
    class Tensor:
        """As much of torch.Tensor as is asked of it."""

        dtype, device = "torch.int64", "cpu"

        def __init__(self, values: Any) -> None:
            self.values = values
            self.tolist = values.tolist

        shape = property(lambda self: self.values.shape)

        def __getitem__(self, index: Any) -> Any:
            return Tensor(self.values[index])

    Tensor.__module__ = "torch"
    assert fingerprint(identity, (Tensor(TOKENS),), {}).domain == "nlp"


def audio_rule() -> Rule:
    return Rule(
        "speech", "argument", lambda argument: type(argument.value) is bytes and argument.value[:4] == b"fLaC", domain="nlp", weight=5
    )


def test_a_rule_of_the_caller_is_added_to_the_table() -> None:
    assert fingerprint(identity, (b"fLaC",), {}).domain == "other"
    found = fingerprint(identity, (b"fLaC",), {}, rules=(*RULES, audio_rule()))
    assert found.domain == "nlp"
    assert found.evidence == ("nlp +5: speech (x is builtins.bytes)",)


def test_a_rule_that_raises_is_logged_once_and_the_others_still_count(caplog: pytest.LogCaptureFixture) -> None:
    broken = Rule("breaks for a test", "module", lambda modules: 1 / 0, domain="nlp")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert fingerprint(identity, (PHOTO,), {}, rules=(broken, *RULES)).domain == "cv"
    assert [record.getMessage() for record in caplog.records if "breaks for a test" in record.getMessage()] == [
        "fingerprint rule ignored name=breaks for a test error=ZeroDivisionError('division by zero')"
    ]


@pytest.mark.parametrize(
    ("wrong", "code"), [({"looks_at": "smell"}, "unknown_view"), ({"domain": "audio"}, "unknown_domain"), ({"phase": "x"}, "unknown_phase")]
)
def test_a_rule_for_something_unknown_is_refused_when_it_is_made(wrong: dict[str, Any], code: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        Rule(**{"name": "r", "looks_at": "module", "predicate": bool, **wrong})
    assert caught.value.code == code


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_no_rule_of_the_table_ever_raises(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for case in CASES:
            fingerprint(case.fn, case.args, case.kwargs)
        for value in (
            *(make() for make in EXOTIC.values()),
            np.matrix([[1, 2], [3, 4]]),
            np.ma.masked_array([[1, 2]], mask=True),
            np.array([[None, "a"]]),
            [1, None],
            [[1], 2],
            [[]],
            {},
        ):
            fingerprint(identity, (value,), {})
    assert "fingerprint rule ignored" not in caplog.text


def test_every_rule_of_the_table_fires_for_some_call() -> None:
    lines = [line for case in CASES for line in fingerprint(case.fn, case.args, case.kwargs).evidence]
    lines += [line for sight in SIGHTS for line in fingerprint_model(sight).evidence]
    silent = {rule.name for rule in RULES if not any(f": {rule.name}" in line for line in lines)}
    assert silent == set()


def test_rules_have_names_of_their_own_and_a_positive_weight() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.weight > 0 and (rule.domain or rule.phase) for rule in RULES)


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Pretends that packages with these entry points (name -> what loads) are installed."""

    def install(**loads: Callable[[], Any]) -> None:
        points = [SimpleNamespace(name=name, value=f"pkg:{name}", load=load) for name, load in loads.items()]
        monkeypatch.setattr(metadata, "entry_points", lambda *, group: points if group == rules_module.PLUGIN_GROUP else [])
        plugin_rules.cache_clear()

    yield install
    plugin_rules.cache_clear()


def test_rules_of_an_installed_package_count_in_every_fingerprint(plugins: Callable[..., None]) -> None:
    plugins(audio=lambda: lambda: iter([audio_rule()]))
    assert fingerprint(identity, (b"fLaC",), {}).domain == "nlp"


def test_a_broken_plug_in_is_logged_once_with_its_name_and_ignored(plugins: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    def fails_to_import() -> Any:
        raise ImportError("no such module")

    plugins(absent=fails_to_import, wrong=lambda: lambda: ["not a rule"], audio=lambda: lambda: [audio_rule()])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert fingerprint(identity, (b"fLaC",), {}).domain == "nlp"
    assert [record.getMessage().split(" error=")[0] for record in caplog.records] == [
        "fingerprint plug-in ignored name=absent value=pkg:absent",
        "fingerprint plug-in ignored name=wrong value=pkg:wrong",
    ]


def test_views_are_what_the_page_says_they_are() -> None:
    views: dict[str, list[Any]] = {}
    spies = [Rule(view, view, lambda got, view=view: views.setdefault(view, []).append(got), domain="cv") for view in rules_module.VIEWS]
    fingerprint(train_churn, ("a.csv",), {}, rules=spies)
    assert [(argument.name, argument.kind, argument.value) for argument in views["argument"]] == [("path", "builtins.str", "a.csv")]
    assert isinstance(views["argument"][0], Argument)
    assert {"pandas", "sklearn", "sklearn.ensemble"} <= views["module"][0]
    assert isinstance(views["name"][0], Names)
    assert {"train", "churn", "train_churn"} <= views["name"][0].function
    assert "randomforestclassifier" in views["model"][0].split("\n")


def test_the_snippet_of_the_page_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    snippet, printed = (text.split(f"```{language}\n")[1].split("```")[0] for language in ("python", "text"))
    exec(compile(snippet, str(PAGE), "exec"), {"__name__": "page"})
    assert capsys.readouterr().out == printed


def test_importing_the_fingerprint_imports_no_heavy_library() -> None:
    code = "import sys, profiler.fingerprint; print(sorted({'numpy','torch','sklearn','ray','pandas','pydantic','PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
