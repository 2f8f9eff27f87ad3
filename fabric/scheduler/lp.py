"""Linear and mixed-integer programs as plain arrays, solved by HiGHS.

Quiet, single-threaded and deterministic: the same program gives the same answer, unless a wall-clock limit cuts it short;
`max_nodes` and `max_iterations` bound the effort without a clock. The whole model is passed in one call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import highspy
import numpy as np
import numpy.typing as npt
from highspy._core import _Highs

from fabric.errors import BugError

Method = Literal["simplex", "ipm", "crossover"]
"""`simplex`: a basic solution (few columns off their bounds). `ipm`: interior, fast on very large programs, spread over all
optimal solutions. `crossover`: interior point, then a basic solution."""
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]

INFINITY = float("inf")
_ROWWISE = 2


@dataclass(slots=True)
class LinearProgram:
    """Optimise `cost @ x` over `row_lower <= A x <= row_upper`, `col_lower <= x <= col_upper`.

    `A` is given as triplets (`rows[k]`, `cols[k]`, `values[k]`) in any order; triplets of one place are added up. Bounds are
    infinite where they do not bind. `integer[c]`: column c takes whole values only.
    """

    cost: Floats
    col_lower: Floats
    col_upper: Floats
    rows: npt.NDArray[np.integer]
    cols: npt.NDArray[np.integer]
    values: Floats
    row_lower: Floats
    row_upper: Floats
    integer: npt.NDArray[np.bool_] | None = None
    is_maximise: bool = False

    def csr(self) -> tuple[Ints, Ints, Floats]:
        """`A` by rows: where each row starts (int32[num_rows]), the columns and the values (float64[nonzeros])."""
        num_cols, num_rows = len(self.cost), len(self.row_lower)
        place = self.rows.astype(np.int64) * num_cols + self.cols
        order = np.argsort(place, kind="stable")
        place, values = place[order], self.values[order]
        if len(place) > 1:
            is_first = np.concatenate(([True], place[1:] != place[:-1]))
            if not is_first.all():
                values = np.add.reduceat(values, np.flatnonzero(is_first))
                place = place[is_first]
        starts = np.searchsorted(place, np.arange(num_rows, dtype=np.int64) * num_cols)
        return starts.astype(np.int32), (place % max(num_cols, 1)).astype(np.int32), values.astype(np.float64)


@dataclass(frozen=True, slots=True)
class Solution:
    """`x`: float64[columns]. `row_duals`: float64[rows], change of the objective per unit by which a binding row bound
    rises (zeros for an integer program)."""

    x: Floats
    objective: float
    row_duals: Floats


def solve(
    lp: LinearProgram,
    *,
    time_limit_s: float | None = None,
    method: Method = "simplex",
    max_iterations: int | None = None,
    max_nodes: int | None = None,
    gap: float = 1e-4,
) -> Solution | None:
    """The best solution, or None where there is none (infeasible, unbounded, or no feasible point within the limits).

    Cut short by a limit it gives the best feasible point found. `gap` is the relative gap at which an integer program stops.

    Raises: BugError when the program is malformed (lengths or indices that do not fit).
    """
    _check(lp)
    if len(lp.cost) == 0:
        is_met = bool(np.all(lp.row_lower <= 0) and np.all(lp.row_upper >= 0))
        return Solution(np.zeros(0), 0.0, np.zeros(len(lp.row_lower))) if is_met else None
    highs = _solver(time_limit_s, method, max_iterations, max_nodes, gap)
    _pass_model(highs, lp)
    highs.run()
    status = highs.getModelStatus()
    info = highs.getInfo()
    is_feasible = info.primal_solution_status == int(highspy.SolutionStatus.kSolutionStatusFeasible)
    if status != highspy.HighsModelStatus.kOptimal and not (is_feasible and status in _CUT_SHORT):
        return None
    found = highs.getSolution()
    x = np.asarray(found.col_value, dtype=np.float64)
    duals = np.asarray(found.row_dual, dtype=np.float64) if found.dual_valid else np.zeros(len(lp.row_lower))
    return Solution(x, float(info.objective_function_value), duals)


class Resolver:
    """A linear program whose column bounds change between solves; each solve starts from the last basis (dual simplex)."""

    def __init__(self, lp: LinearProgram) -> None:
        """Whole columns are taken as continuous. Raises: BugError when the program is malformed."""
        _check(lp)
        self._highs = _solver(None, "simplex", None, None, 0.0)
        self._num_cols, self._num_rows = len(lp.cost), len(lp.row_lower)
        _pass_model(self._highs, replace(lp, integer=None))

    def bound(self, col: int, lower: float, upper: float) -> None:
        """From now on `lower <= x[col] <= upper`."""
        self._highs.changeColBounds(col, lower, upper)

    def solve(self) -> Solution | None:
        """The best basic solution, or None where there is none."""
        self._highs.run()
        if self._highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        found = self._highs.getSolution()
        x, duals = np.asarray(found.col_value, dtype=np.float64), np.asarray(found.row_dual, dtype=np.float64)
        return Solution(x, float(self._highs.getInfo().objective_function_value), duals)


_CUT_SHORT = (
    highspy.HighsModelStatus.kTimeLimit,
    highspy.HighsModelStatus.kIterationLimit,
    highspy.HighsModelStatus.kSolutionLimit,
    highspy.HighsModelStatus.kUnknown,
)


def _check(lp: LinearProgram) -> None:
    num_cols, num_rows = len(lp.cost), len(lp.row_lower)
    is_sound = len(lp.col_lower) == len(lp.col_upper) == num_cols and len(lp.row_upper) == num_rows
    is_sound = is_sound and len(lp.rows) == len(lp.cols) == len(lp.values) and (lp.integer is None or len(lp.integer) == num_cols)
    if is_sound and len(lp.rows):
        is_sound = bool(lp.rows.min() >= 0 and lp.rows.max() < num_rows and lp.cols.min() >= 0 and lp.cols.max() < num_cols)
    if not is_sound:
        raise BugError("malformed linear program", columns=num_cols, rows=num_rows, nonzeros=len(lp.values))


def _solver(time_limit_s: float | None, method: Method, max_iterations: int | None, max_nodes: int | None, gap: float) -> _Highs:
    highs = _Highs()  # not its subclass `highspy.Highs`, which prints a banner before it can be silenced
    options: dict[str, bool | int | float | str] = {
        "output_flag": False,
        "threads": 1,
        "parallel": "off",
        "random_seed": 0,
        "solver": "simplex" if method == "simplex" else "ipm",
        "run_crossover": "off" if method == "ipm" else "on",
        "mip_rel_gap": gap,
    }
    if time_limit_s is not None:
        options["time_limit"] = time_limit_s
    if max_iterations is not None:
        options["simplex_iteration_limit"] = max_iterations
        options["ipm_iteration_limit"] = max_iterations
    if max_nodes is not None:
        options["mip_max_nodes"] = max_nodes
    for name, value in options.items():
        highs.setOptionValue(name, value)
    return highs


def _pass_model(highs: _Highs, lp: LinearProgram) -> None:
    starts, cols, values = lp.csr()
    num_cols, num_rows = len(lp.cost), len(lp.row_lower)
    cost, col_lower, col_upper = _floats(lp.cost), _floats(lp.col_lower), _floats(lp.col_upper)
    row_lower, row_upper = _floats(lp.row_lower), _floats(lp.row_upper)
    integrality = np.zeros(num_cols, dtype=np.int32) if lp.integer is None else lp.integer.astype(np.int32)
    sense = -1 if lp.is_maximise else 1
    status = highs.passModel(
        num_cols,
        num_rows,
        len(values),
        _ROWWISE,
        sense,
        0.0,
        cost,
        col_lower,
        col_upper,
        row_lower,
        row_upper,
        starts,
        cols,
        values,
        integrality,
    )
    if status == highspy.HighsStatus.kError:
        raise BugError("the solver refused a linear program", columns=num_cols, rows=num_rows, nonzeros=len(values))


def _floats(values: Floats) -> Floats:
    return np.ascontiguousarray(values, dtype=np.float64)
