"""The arithmetic of one operation of an ONNX graph, from the shapes that go in and come out.

A multiply-add counts as two FLOPs; an element of a simple function as one, of one that hardware approximates (exp, tanh, erf) as four.
Pure; knows no ONNX package: an `Op` is plain shapes and attributes.

Source: the operators' definitions, https://onnx.ai/onnx/operators/ and, for `com.microsoft`,
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Shape = tuple[int, ...]


class Op(NamedTuple):
    """One node. A shape is None where it could not be inferred; inputs that are left out have shape ()."""

    kind: str
    inputs: tuple[Shape | None, ...]
    outputs: tuple[Shape | None, ...]
    attributes: Mapping[str, Any]


class UncountedOpError(LookupError):
    """No rule for this operation, or a shape that its rule needs is missing."""


_FREE = "Reshape Flatten Squeeze Unsqueeze Identity Dropout Constant ConstantOfShape Shape Size Cast ZipMap Range NonZero"
_MOVES = (
    "Transpose Concat Slice Split Gather GatherElements GatherND ScatterND ScatterElements Pad Expand Tile Where Resize Upsample "
    "DepthToSpace SpaceToDepth OneHot EyeLike ArrayFeatureExtractor FeatureVectorizer LabelEncoder StringNormalizer Tokenizer"
)
CPU_ONLY = frozenset(
    (
        *("TfIdfVectorizer", "StringNormalizer", "Tokenizer", "DictVectorizer", "CategoryMapper", "Imputer", "Scaler", "Normalizer"),
        *("LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor"),
        *("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"),
    )
)
"""No accelerator runs these. Source: ONNX Runtime's docs/OperatorKernels.md, which lists `ai.onnx.ml` and text under the CPU alone."""
_SIMPLE = (
    "Add Sub Mul Div Neg Abs Relu LeakyRelu PRelu Clip Min Max Sum Mean And Or Not Xor Equal Greater Less GreaterOrEqual LessOrEqual Sign "
    "Floor Ceil Round Sqrt Reciprocal Mod HardSigmoid HardSwish ThresholdedRelu QuantizeLinear DequantizeLinear DynamicQuantizeLinear "
    "BitShift IsNaN IsInf CumSum Trilu Binarizer Imputer"
)
_COSTLY = "Exp Log Tanh Sigmoid Erf Gelu FastGelu QuickGelu BiasGelu Softplus Elu Selu Celu Mish Pow Sin Cos Swish"
FREE = frozenset(_FREE.split())
"""Change how values are looked at, or are worked out once: no arithmetic and no kernel of their own worth counting."""
MOVES = frozenset(_MOVES.split())
"""Move bytes and compute nothing."""
ELEMENTWISE: Mapping[str, float] = {**dict.fromkeys(_SIMPLE.split(), 1.0), **dict.fromkeys(_COSTLY.split(), 4.0)}
"""FLOPs per element; compilers fuse these into the operation that feeds them."""
_NORMALISATIONS = {
    "BatchNormalization": 2.0,
    "InstanceNormalization": 6.0,
    "LayerNormalization": 8.0,
    "SimplifiedLayerNormalization": 6.0,
    "SkipLayerNormalization": 9.0,
    "SkipSimplifiedLayerNormalization": 7.0,
    "RMSNormalization": 6.0,
    "GroupNormalization": 8.0,
    "LpNormalization": 4.0,
    "LRN": 10.0,
    "Softmax": 7.0,
    "LogSoftmax": 8.0,
    "Normalizer": 3.0,
    "Scaler": 2.0,
    "Hardmax": 2.0,
    "RotaryEmbedding": 3.0,
    "EmbedLayerNormalization": 10.0,
}


def flops_of(op: Op) -> float:
    """FLOPs of one operation. Raises: UncountedOpError."""
    if op.kind in FREE or op.kind in MOVES:
        return 0.0
    if op.kind in ELEMENTWISE:
        return ELEMENTWISE[op.kind] * _elements(_known(op.outputs, 0))
    if op.kind in _NORMALISATIONS:
        return _NORMALISATIONS[op.kind] * _elements(_known(op.outputs, 0))
    if op.kind.startswith(("Reduce", "Arg")) or op.kind == "TopK":
        return float(_elements(_known(op.inputs, 0)))
    rule = _RULES.get(op.kind)
    if rule is None:
        raise UncountedOpError(op.kind)
    return float(rule(op))


def _elements(shape: Shape) -> int:
    return math.prod(shape)


def _known(shapes: tuple[Shape | None, ...], index: int) -> Shape:
    shape = shapes[index] if index < len(shapes) else None
    if shape is None:
        raise UncountedOpError(f"unknown shape {index}")
    return shape


def _conv(op: Op, weights: int = 1) -> float:
    """Weights [M, C/groups, kernel…]: each output element is a sum over the last ones."""
    return 2.0 * _elements(_known(op.outputs, 0)) * _elements(_known(op.inputs, weights)[1:])


def _conv_transpose(op: Op) -> float:
    """Weights [C, M/groups, kernel…]: each input element is spread over them."""
    return 2.0 * _elements(_known(op.inputs, 0)) * _elements(_known(op.inputs, 1)[1:])


def _gemm(op: Op) -> float:
    first = _known(op.inputs, 0)
    inner = first[0] if op.attributes.get("transA") else first[-1]
    return 2.0 * _elements(_known(op.outputs, 0)) * inner


def _matmul(op: Op) -> float:
    return 2.0 * _elements(_known(op.outputs, 0)) * _known(op.inputs, 0)[-1]


def _matmul_nbits(op: Op) -> float:
    return 2.0 * _elements(_known(op.inputs, 0)) * float(op.attributes["N"])


def _attention(op: Op) -> float:
    """com.microsoft: [batch, seq, hidden] through [hidden, 3 × hidden], then scores and their sums; ONNX's own: without the first."""
    given, weights = _known(op.inputs, 0), op.inputs[1] if len(op.inputs) > 1 else None
    if len(given) == 3 and weights is not None and len(weights) == 2:
        batch, seq, _ = given
        return 2.0 * _elements(given) * weights[1] + 4.0 * batch * seq * seq * weights[1] / 3
    return _query_attention(op)


def _query_attention(op: Op) -> float:
    """Query and key [batch, seq, hidden] or [batch, heads, seq, size]."""
    query, key = _known(op.inputs, 0), _known(op.inputs, 1)
    return 4.0 * _elements(query) * key[-2]


def _recurrent(op: Op) -> float:
    """Input [seq, batch, size]; weights [directions, gates × hidden, size] and [directions, gates × hidden, hidden]."""
    seq, batch = _known(op.inputs, 0)[:2]
    return 2.0 * seq * batch * (_elements(_known(op.inputs, 1)) + _elements(_known(op.inputs, 2)))


def _pool(op: Op) -> float:
    return float(_elements(_known(op.outputs, 0)) * math.prod(op.attributes.get("kernel_shape") or (1,)))


def _einsum(op: Op) -> float:
    """Twice the product of all sizes that the equation names."""
    terms = str(op.attributes["equation"]).replace(" ", "").split("->")[0].split(",")
    if "." in "".join(terms):
        raise UncountedOpError("Einsum with ...")
    sizes = {letter: size for i, term in enumerate(terms) for letter, size in zip(term, _known(op.inputs, i), strict=True)}
    return 2.0 * math.prod(sizes.values())


def _rows(op: Op) -> int:
    return (_known(op.inputs, 0) or (1,))[0]


def _linear_model(op: Op) -> float:
    return 2.0 * _rows(op) * len(op.attributes.get("coefficients") or ())


def _support_vectors(op: Op) -> float:
    return 3.0 * _rows(op) * len(op.attributes.get("support_vectors") or op.attributes.get("coefficients") or ())


def _trees(op: Op) -> float:
    """One comparison and one step per level: a tree of n nodes is taken to be log2(n) deep, and half as deep again, as forests grow."""
    ids = op.attributes.get("nodes_treeids") or ()
    if not ids:
        raise UncountedOpError(op.kind)
    num_trees = len(set(ids))
    depth = 1.5 * math.log2(max(len(ids) / num_trees, 2.0))
    return 2.0 * _rows(op) * num_trees * depth


_RULES: Mapping[str, Callable[[Op], float]] = {
    "Conv": _conv,
    "FusedConv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": lambda op: _conv(op, 3),
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "FusedGemm": _gemm,
    "MatMul": _matmul,
    "FusedMatMul": _matmul,
    "MatMulInteger": _matmul,
    "MatMulIntegerToFloat": _matmul,
    "DynamicQuantizeMatMul": _matmul,
    "QLinearMatMul": _matmul,
    "MatMulNBits": _matmul_nbits,
    "Attention": _attention,
    "MultiHeadAttention": _query_attention,
    "GroupQueryAttention": _query_attention,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "LpPool": _pool,
    "GlobalAveragePool": lambda op: float(_elements(_known(op.inputs, 0))),
    "GlobalMaxPool": lambda op: float(_elements(_known(op.inputs, 0))),
    "Einsum": _einsum,
    "LinearClassifier": _linear_model,
    "LinearRegressor": _linear_model,
    "SVMClassifier": _support_vectors,
    "SVMRegressor": _support_vectors,
    "TreeEnsembleClassifier": _trees,
    "TreeEnsembleRegressor": _trees,
    "TfIdfVectorizer": lambda op: float(_elements(_known(op.inputs, 0)) * 2),
}
