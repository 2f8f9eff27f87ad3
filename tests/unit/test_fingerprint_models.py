"""What kind of work a model is: a labelled table of ONNX graphs, fitted learners and torch modules, and how many are recognised."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from profiler.fingerprint import fingerprint, fingerprint_model  # noqa: E402
from profiler.model_facts import ModelFacts  # noqa: E402
from profiler.onnx_model import read_onnx  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # what the libraries say of models as small as these
DATA = Path(os.environ.get("FABRIC_DATA_DIR", Path(__file__).parents[3] / "shared" / "data"))
F, I64, TEXT, U8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.UINT8


class Net:
    """An ONNX graph under construction: `net.op("Conv", x, weights, …)` adds a node and returns its output."""

    def __init__(self, *opsets: tuple[str, int]) -> None:
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self.weights: list[Any] = []
        self.opsets = opsets or (("", 17),)

    def take(self, name: str, dtype: int, *shape: int | str) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.full(shape, 0.01, np.float32), name))
        return name

    def ints(self, *values: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], domain=domain, **attributes))
        return out

    def conv(self, x: str, taken: int, given: int, size: int = 3, **attributes: Any) -> str:
        return self.op("Relu", self.op("Conv", x, self.weight(given, taken, size, size), pads=[size // 2] * 4, **attributes))

    def dense(self, x: str, taken: int, given: int) -> str:
        return self.op("MatMul", x, self.weight(taken, given))

    def norm(self, x: str, width: int) -> str:
        return self.op("LayerNormalization", x, self.weight(width), self.weight(width), axis=-1)

    def block(self, x: str, width: int) -> str:
        """Attention with one head, written out."""
        q, k, v = (self.dense(x, width, width) for _ in range(3))
        scores = self.op("Softmax", self.op("MatMul", q, self.op("Transpose", k, perm=[0, 2, 1])), axis=-1)
        return self.norm(self.op("Add", x, self.op("MatMul", scores, v)), width)

    def save(self, path: Path, output: str) -> Path:
        made = helper.make_tensor_value_info(output, F, None)
        graph = helper.make_graph(self.nodes, "g", self.inputs, [made], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*entry) for entry in self.opsets], ir_version=8)
        onnx.save(model, str(path))
        return path


# -- ONNX graphs, as exporters write them ----------------------------------------------------------------------------------


def classifier(net: Net) -> str:
    x = net.conv(net.conv(net.take("input", F, "batch", 3, 224, 224), 3, 16, strides=[2, 2]), 16, 32)
    return net.op("Softmax", net.dense(net.op("Flatten", net.op("GlobalAveragePool", x)), 32, 1000))


def grey_digits(net: Net) -> str:
    return net.dense(net.op("Flatten", net.conv(net.take("x", F, 1, 1, 28, 28), 1, 8)), 8 * 28 * 28, 10)


def open_sides(net: Net) -> str:
    return net.conv(net.take("in0", F, "n", 3, "h", "w"), 3, 3)


def depthwise(net: Net) -> str:
    return net.conv(net.conv(net.take("data", F, 1, 3, 96, 96), 3, 8), 1, 8, group=8)


def segmenter(net: Net) -> str:
    x = net.conv(net.take("scan", F, 1, 1, 128, 128), 1, 8, strides=[2, 2])
    return net.op("ConvTranspose", x, net.weight(8, 2, 2, 2), strides=[2, 2])


def enlarger(net: Net) -> str:
    return net.op("DepthToSpace", net.conv(net.take("lr", F, 1, 3, 64, 64), 3, 12), blocksize=2)


def volume(net: Net) -> str:
    return net.op("Conv", net.take("volume", F, 1, 1, 64, 64, 64), net.weight(4, 1, 3, 3, 3))


def patches(net: Net) -> str:
    x = net.op("Conv", net.take("pixels", F, "n", 3, 224, 224), net.weight(64, 3, 16, 16), strides=[16, 16])
    return net.block(net.op("Transpose", net.op("Reshape", x, net.ints(-1, 64, 196)), perm=[0, 2, 1]), 64)


def raw_bytes(net: Net) -> str:
    x = net.op("Cast", net.op("Transpose", net.take("frame", U8, 1, 480, 640, 3), perm=[0, 3, 1, 2]), to=F)
    return net.conv(x, 3, 4)


def encoder(net: Net) -> str:
    x = net.op("Gather", net.weight(3000, 64), net.take("input_ids", I64, "batch", "seq"))
    return net.block(net.block(x, 64), 64)


def unnamed_encoder(net: Net) -> str:
    x = net.op("Gather", net.weight(3000, 64), net.take("x", I64, 1, 128))
    return net.block(x, 64)


def masked_encoder(net: Net) -> str:
    ids, mask = net.take("input_ids", I64, "b", "s"), net.take("attention_mask", I64, "b", "s")
    x = net.op("Gather", net.weight(3000, 64), ids)
    return net.op("Mul", net.block(x, 64), net.op("Unsqueeze", net.op("Cast", mask, to=F), net.ints(2)))


def fused_encoder(net: Net) -> str:
    net.opsets = (("", 17), ("com.microsoft", 1))
    x = net.op("Gather", net.weight(3000, 64), net.take("tokens", I64, 1, 64))
    return net.op("Attention", x, net.weight(64, 192), net.weight(192), domain="com.microsoft", num_heads=4)


def decoder(net: Net) -> str:
    x = net.block(net.op("Gather", net.weight(5000, 64), net.take("ids", I64, 1, "len")), 64)
    return net.dense(x, 64, 5000)


def text_lstm(net: Net) -> str:
    x = net.op("Transpose", net.op("Gather", net.weight(2000, 32), net.take("words", I64, 1, 50)), perm=[1, 0, 2])
    return net.op("LSTM", x, net.weight(1, 64, 32), net.weight(1, 64, 16), hidden_size=16)


def hidden_states(net: Net) -> str:
    return net.block(net.take("hidden", F, 1, 128, 768), 768)


def dense_table(net: Net) -> str:
    return net.dense(net.op("Relu", net.dense(net.take("features", F, "rows", 12), 12, 32)), 32, 1)


def unnamed_table(net: Net) -> str:
    return net.op("Sigmoid", net.dense(net.take("x", F, "n", 30), 30, 1))


def recommender(net: Net) -> str:
    dense = net.dense(net.take("dense", F, "n", 13), 13, 16)
    tables = [net.op("Gather", net.weight(500, 16), net.take(f"c{i}", I64, "n")) for i in range(4)]
    return net.dense(net.op("Concat", dense, *tables, axis=1), 80, 1)


def image_training(net: Net) -> str:
    x = net.conv(net.take("x", F, 8, 3, 32, 32), 3, 4)
    scores = net.dense(net.op("Flatten", x), 4 * 32 * 32, 10)
    return net.op("SoftmaxCrossEntropyLoss", scores, net.take("labels", I64, 8))


def table_training(net: Net) -> str:
    scores = net.op("LogSoftmax", net.dense(net.take("x", F, 64, 20), 20, 5))
    return net.op("NegativeLogLikelihoodLoss", scores, net.take("y", I64, 64))


def text_training(net: Net) -> str:
    x = net.op("ReduceMean", net.block(net.op("Gather", net.weight(3000, 64), net.take("input_ids", I64, 8, 64)), 64), axes=[1])
    return net.op("SoftmaxCrossEntropyLoss", net.dense(x, 64, 2), net.take("labels", I64, 8))


def speech(net: Net) -> str:
    return net.op("Conv", net.take("waveform", F, 1, 1, 16000), net.weight(8, 1, 9))


def spectrum(net: Net) -> str:
    return net.op("STFT", net.take("signal", F, 1, 4096, 1), net.ints(128), net.weight(256))


def series(net: Net) -> str:
    return net.op("LSTM", net.take("series", F, 96, 1, 7), net.weight(1, 64, 7), net.weight(1, 64, 16), hidden_size=16)


def product(net: Net) -> str:
    return net.op("MatMul", net.take("a", F, 256, 256), net.take("b", F, 256, 256))


def sum_of_two(net: Net) -> str:
    return net.op("Add", net.take("a", F, 1), net.take("b", F, 1))


def graph_layer(net: Net) -> str:
    edges = net.op("Gather", net.take("nodes", F, 500, 600), net.take("edges", I64, 2000))
    return net.op("ReduceSum", edges)


# Further graphs, labelled before they were first tried; what they show does not decide all of them.


def style(net: Net) -> str:
    x = net.conv(net.take("content", F, 1, 3, 256, 256), 3, 8, 9)
    return net.op("Tanh", net.op("InstanceNormalization", x, net.weight(8), net.weight(8)))


def generator(net: Net) -> str:
    x = net.op("Reshape", net.dense(net.take("z", F, 1, 100), 100, 4096), net.ints(1, 64, 8, 8))
    return net.op("ConvTranspose", x, net.weight(64, 3, 4, 4), strides=[2, 2])


def text_convolution(net: Net) -> str:
    x = net.op("Transpose", net.op("Gather", net.weight(8000, 32), net.take("t", I64, 1, 200)), perm=[0, 2, 1])
    return net.op("GlobalMaxPool", net.op("Conv", x, net.weight(16, 32, 5)))


def short_ids(net: Net) -> str:
    return net.block(net.op("Gather", net.weight(3000, 64), net.take("a", TensorProto.INT32, 1, 40)), 64)


def sentence_pair(net: Net) -> str:
    x = net.op("Gather", net.weight(3000, 64), net.take("x1", I64, "n", "s"))
    return net.norm(net.op("Add", x, net.op("Gather", net.weight(2, 64), net.take("x2", I64, "n", "s"))), 64)


def table_autoencoder(net: Net) -> str:
    return net.dense(net.op("Relu", net.dense(net.take("record", F, "n", 40), 40, 8)), 8, 40)


def transactions(net: Net) -> str:
    shop = net.op("Gather", net.weight(900, 8), net.take("shop_id", I64, "n"))
    return net.op("Sigmoid", net.dense(net.op("Concat", shop, net.take("amounts", F, "n", 5), axis=1), 13, 1))


def spectrogram(net: Net) -> str:
    return net.conv(net.take("mel", F, 1, 1, 80, 300), 1, 8)


def controller(net: Net) -> str:
    return net.op("Tanh", net.dense(net.take("observation", F, 1, 17), 17, 6))


GRAPHS: list[tuple[Callable[[Net], str], str, str]] = [
    *(
        (make, "cv", "inference")
        for make in (classifier, grey_digits, open_sides, depthwise, segmenter, enlarger, volume, patches, raw_bytes)
    ),
    *((make, "nlp", "inference") for make in (encoder, unnamed_encoder, masked_encoder, fused_encoder, decoder, text_lstm, hidden_states)),
    *((make, "tabular", "inference") for make in (dense_table, unnamed_table, recommender)),
    (image_training, "cv", "training"),
    (table_training, "tabular", "training"),
    (text_training, "nlp", "training"),
    *((make, "other", "inference") for make in (speech, spectrum, series, product, sum_of_two, graph_layer)),
    *((make, "cv", "inference") for make in (style, generator)),
    *((make, "nlp", "inference") for make in (text_convolution, short_ids, sentence_pair)),
    *((make, "tabular", "inference") for make in (table_autoencoder, transactions)),
    *((make, "other", "inference") for make in (spectrogram, controller)),
]


# -- learners of scikit-learn, as skl2onnx writes them ---------------------------------------------------------------------


def learners() -> list[tuple[str, Any, str]]:
    """(name, fitted learner, domain)."""
    from sklearn import cluster, decomposition, ensemble, linear_model, naive_bayes, neighbors, neural_network, preprocessing, svm, tree
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    draw = np.random.default_rng(3)
    x = draw.normal(size=(60, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    tables = [
        linear_model.LogisticRegression(),
        linear_model.LinearRegression(),
        linear_model.Ridge(),
        tree.DecisionTreeClassifier(max_depth=4),
        ensemble.RandomForestClassifier(5),
        ensemble.GradientBoostingClassifier(n_estimators=5),
        ensemble.IsolationForest(n_estimators=5),
        svm.SVC(),
        neighbors.KNeighborsClassifier(),
        naive_bayes.GaussianNB(),
        neural_network.MLPClassifier((8,), max_iter=5),
        cluster.KMeans(3, n_init=1),
        decomposition.PCA(2),
        make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
        ensemble.ExtraTreesRegressor(4),
        ensemble.AdaBoostClassifier(n_estimators=3),
        svm.OneClassSVM(),
        make_pipeline(preprocessing.MinMaxScaler(), linear_model.Lasso(0.01)),
    ]
    said = ["a delight from start to finish", "not again, even for money", "a film for the whole family", "dull and far too long"] * 3
    marks = [1, 0, 1, 0] * 3
    texts = [
        make_pipeline(TfidfVectorizer(), linear_model.LogisticRegression()),
        make_pipeline(CountVectorizer(), naive_bayes.MultinomialNB()),
    ]
    named = [(_name(learner), learner.fit(x, y), "tabular") for learner in tables]
    return [*named, *((_name(learner), learner.fit(said, marks), "nlp") for learner in texts)]


def _name(learner: Any) -> str:
    return "+".join(learner.named_steps) if hasattr(learner, "named_steps") else type(learner).__name__


def converted(learner: Any, domain: str, path: Path) -> Path:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    kind = StringTensorType([None, 1]) if domain == "nlp" else FloatTensorType([None, 6])
    path.write_bytes(to_onnx(learner, initial_types=[("X", kind)], target_opset={"": 17, "ai.onnx.ml": 3}).SerializeToString())
    return path


# -- torch modules, where torch is installed -------------------------------------------------------------------------------


def modules() -> list[tuple[str, Any, str]]:
    from torch import nn

    def net(*parts: Any) -> Any:
        return nn.Sequential(*parts)

    return [
        ("convolutions", net(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()), "cv"),
        ("up-convolutions", net(nn.Conv2d(1, 8, 3), nn.ConvTranspose2d(8, 1, 2, 2)), "cv"),
        ("a transformer's encoder", net(nn.Embedding(2000, 64), nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4), 2)), "nlp"),
        ("a decoder", nn.TransformerDecoder(nn.TransformerDecoderLayer(64, 4), 1), "nlp"),
        ("an LSTM over signals", nn.LSTM(8, 16), "other"),
        ("one linear layer", nn.Linear(10, 10), "other"),
    ]


@dataclass(frozen=True)
class Case:
    what: str
    domain: str
    phase: str
    facts: ModelFacts | None = None
    module: Any = None

    @property
    def seen(self) -> tuple[str, str]:
        found = fingerprint(self.module, (), {}) if self.facts is None else fingerprint_model(self.facts.sight)
        return found.domain, found.phase


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    folder = tmp_path_factory.mktemp("models")
    made = []
    for make, domain, phase in GRAPHS:
        net = Net()
        made.append(Case(make.__name__, domain, phase, read_onnx(net.save(folder / f"{make.__name__}.onnx", make(net)))))
    squeeze = DATA / "models" / "SqueezeNet_fp16.onnx"
    if squeeze.is_file():
        made.append(Case("SqueezeNet", "cv", "inference", read_onnx(squeeze)))
    try:
        import skl2onnx  # noqa: F401
    except ImportError:
        print("without scikit-learn's models: skl2onnx is not installed")
    else:
        for name, learner, domain in learners():
            made.append(Case(name, domain, "inference", read_onnx(converted(learner, domain, folder / f"{name}.onnx"))))
            made.append(Case(f"{name}.fit", domain, "training", module=learner.fit))
    try:
        from profiler.torch_model import weights_facts

        for name, module, domain in modules():
            made.append(Case(f"{name}, a torch module", domain, "inference", module=module))
            made.append(Case(f"{name}, a torch file", domain, "inference", weights_facts(module, dict(module.state_dict()))))
    except ImportError:
        print("without torch's modules: torch is not installed")
    return made


def test_at_least_95_percent_of_the_models_are_recognised(cases: list[Case]) -> None:
    misses = [f"{case.what}: {case.seen} is not {(case.domain, case.phase)}" for case in cases if case.seen != (case.domain, case.phase)]
    print(f"{len(cases) - len(misses)} of {len(cases)} models", *misses, sep="\n")
    assert len(cases) >= 28
    assert len(misses) <= 0.05 * len(cases), misses


def test_the_evidence_of_a_model_names_its_operations(cases: list[Case]) -> None:
    seen = next(case for case in cases if case.what == "classifier")
    assert seen.facts is not None
    evidence = fingerprint_model(seen.facts.sight).evidence
    assert any("vision model (conv2d)" in line for line in evidence), evidence


def test_a_declared_domain_wins_over_a_model(cases: list[Case]) -> None:
    seen = next(case for case in cases if case.what == "classifier")
    assert seen.facts is not None
    found = fingerprint_model(seen.facts.sight, domain="other", phase="training")
    assert (found.domain, found.phase) == ("other", "training")
    assert found.evidence == ("declared: domain other", "declared: phase training")
