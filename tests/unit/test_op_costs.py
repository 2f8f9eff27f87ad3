"""FLOPs of single operations, against their definitions."""

from __future__ import annotations

from typing import Any

import pytest

from profiler.op_costs import Op, UncountedOpError, flops_of

CASES: list[tuple[str, list[Any], list[Any], dict[str, Any], float]] = [
    ("Conv", [(1, 3, 224, 224), (64, 3, 7, 7)], [(1, 64, 112, 112)], {}, 2 * 64 * 112 * 112 * 3 * 49),
    ("Conv", [(1, 32, 56, 56), (32, 1, 3, 3)], [(1, 32, 56, 56)], {"group": 32}, 2 * 32 * 56 * 56 * 9),
    ("QLinearConv", [(1, 3, 8, 8), (), (), (4, 3, 3, 3)], [(1, 4, 6, 6)], {}, 2 * 4 * 36 * 27),
    ("ConvTranspose", [(1, 8, 4, 4), (8, 2, 2, 2)], [(1, 2, 8, 8)], {}, 2 * 8 * 16 * 2 * 4),
    ("Gemm", [(5, 7), (7, 3)], [(5, 3)], {}, 2 * 5 * 7 * 3),
    ("Gemm", [(7, 5), (7, 3)], [(5, 3)], {"transA": 1}, 2 * 5 * 7 * 3),
    ("MatMul", [(2, 12, 128, 64), (2, 12, 64, 128)], [(2, 12, 128, 128)], {}, 2 * 2 * 12 * 128 * 128 * 64),
    ("Attention", [(2, 128, 64), (64, 192)], [(2, 128, 64)], {}, 2 * 2 * 128 * 64 * 192 + 4 * 2 * 128 * 128 * 64),
    ("MultiHeadAttention", [(2, 10, 64), (2, 30, 64), (2, 30, 64)], [(2, 10, 64)], {}, 4 * 2 * 10 * 30 * 64),
    ("LSTM", [(50, 4, 8), (1, 64, 8), (1, 64, 16)], [(50, 1, 4, 16)], {}, 2 * 50 * 4 * (64 * 8 + 64 * 16)),
    ("Einsum", [(2, 3, 4), (2, 4, 5)], [(2, 3, 5)], {"equation": "bij, bjk -> bik"}, 2 * 2 * 3 * 4 * 5),
    ("MaxPool", [(1, 8, 8, 8)], [(1, 8, 4, 4)], {"kernel_shape": [2, 2]}, 8 * 16 * 4),
    ("Relu", [(3, 4)], [(3, 4)], {}, 12),
    ("Erf", [(3, 4)], [(3, 4)], {}, 48),
    ("LayerNormalization", [(2, 8)], [(2, 8)], {}, 128),
    ("ReduceMean", [(2, 8)], [(2,)], {}, 16),
    ("Reshape", [(2, 8), (1,)], [(16,)], {}, 0),
    ("Transpose", [(2, 8)], [(8, 2)], {}, 0),
    ("LinearClassifier", [(10, 6)], [(10,)], {"coefficients": [0.0] * 12}, 2 * 10 * 12),
    ("TreeEnsembleClassifier", [(10, 6)], [(10,)], {"nodes_treeids": [0] * 16 + [1] * 16}, 2 * 10 * 2 * 1.5 * 4),
]


@pytest.mark.parametrize(("kind", "inputs", "outputs", "attributes", "flops"), CASES, ids=[case[0] for case in CASES])
def test_an_operation_is_counted_as_it_is_defined(kind: str, inputs: list[Any], outputs: list[Any], attributes: Any, flops: float) -> None:
    assert flops_of(Op(kind, tuple(inputs), tuple(outputs), attributes)) == flops


@pytest.mark.parametrize(
    "op",
    [
        Op("NonMaxSuppression", ((1,),), ((1,),), {}),
        Op("Conv", (None, (1, 1, 3, 3)), (None,), {}),
        Op("MatMul", ((2, 3),), (None,), {}),
        Op("Einsum", ((2, 3),), ((2,),), {"equation": "...i->..."}),
        Op("TreeEnsembleRegressor", ((1, 3),), ((1,),), {}),
    ],
    ids=str,
)
def test_what_has_no_rule_or_no_shape_is_said_and_not_guessed(op: Op) -> None:
    with pytest.raises(UncountedOpError):
        flops_of(op)
