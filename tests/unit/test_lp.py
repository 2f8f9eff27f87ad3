"""The wrapper over the solver: right answers, no answer where there is none, the same answer every time."""

from __future__ import annotations

import numpy as np
import pytest

from fabric.errors import BugError
from fabric.scheduler.lp import INFINITY, LinearProgram, Method, Resolver, solve


def _program(**changes: object) -> LinearProgram:
    """max 3x + 2y, x + y <= 4, x + 3y <= 6 (its last coefficient given in two parts)."""
    fields: dict[str, object] = {
        "cost": np.array([3.0, 2.0]),
        "col_lower": np.zeros(2),
        "col_upper": np.full(2, INFINITY),
        "rows": np.array([1, 0, 1, 0, 1]),
        "cols": np.array([1, 0, 0, 1, 1]),
        "values": np.array([1.5, 1.0, 1.0, 1.0, 1.5]),
        "row_lower": np.full(2, -INFINITY),
        "row_upper": np.array([4.0, 6.0]),
        "is_maximise": True,
    }
    return LinearProgram(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["simplex", "ipm", "crossover"])
def test_every_method_finds_the_optimum_and_its_duals(method: Method) -> None:
    found = solve(_program(), method=method)
    assert found is not None
    assert found.objective == pytest.approx(12.0, abs=1e-5)
    assert found.x == pytest.approx([4.0, 0.0], abs=1e-5)
    assert found.row_duals == pytest.approx([3.0, 0.0], abs=1e-5)


def test_whole_columns_take_whole_values() -> None:
    cost, upper = np.array([2.0, 3.0]), np.array([4.5, 6.0])
    relaxed = solve(_program(cost=cost, row_upper=upper))
    whole = solve(_program(cost=cost, row_upper=upper, integer=np.array([True, True])))
    assert relaxed is not None
    assert whole is not None
    assert relaxed.objective > whole.objective
    assert whole.objective == pytest.approx(9.0)  # (3, 1)
    assert np.all(whole.x == np.round(whole.x))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"row_lower": np.array([10.0, -INFINITY])}, id="infeasible"),
        pytest.param({"row_upper": np.full(2, INFINITY)}, id="unbounded"),
    ],
)
def test_there_is_no_answer_where_there_is_no_optimum(changes: dict[str, object]) -> None:
    assert solve(_program(**changes)) is None


def test_a_program_without_columns_is_met_or_not_by_zero() -> None:
    empty = np.zeros(0)
    none = np.zeros(0, dtype=np.int64)
    fields = {"cost": empty, "col_lower": empty, "col_upper": empty, "rows": none, "cols": none, "values": empty}
    assert solve(LinearProgram(**fields, row_lower=np.zeros(1), row_upper=np.ones(1))) is not None
    assert solve(LinearProgram(**fields, row_lower=np.ones(1), row_upper=np.ones(1))) is None


@pytest.mark.parametrize("changes", [{"rows": np.array([2, 0, 1, 0, 1])}, {"col_lower": np.zeros(3)}, {"values": np.ones(4)}])
def test_a_malformed_program_is_a_bug(changes: dict[str, object]) -> None:
    with pytest.raises(BugError):
        solve(_program(**changes))


def test_the_solver_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    solve(_program(integer=np.array([True, True])))
    assert capfd.readouterr() == ("", "")


def test_the_same_program_gives_the_same_vertex_and_it_is_basic() -> None:
    rng = np.random.default_rng(0)
    jobs, flavors = 400, 5
    seconds = rng.uniform(1, 10, (jobs, flavors))
    way = np.arange(jobs * flavors)
    end = jobs * flavors
    lp = LinearProgram(
        np.append(np.zeros(end), 1.0),
        np.zeros(end + 1),
        np.full(end + 1, INFINITY),
        np.concatenate([way // flavors, jobs + way % flavors, jobs + np.arange(flavors)]),
        np.concatenate([way, way, np.full(flavors, end)]),
        np.concatenate([np.ones(end), seconds.ravel(), np.full(flavors, -3.0)]),
        np.concatenate([np.ones(jobs), np.full(flavors, -INFINITY)]),
        np.concatenate([np.ones(jobs), np.zeros(flavors)]),
    )
    first, second = solve(lp), solve(lp)
    assert first is not None
    assert second is not None
    assert np.array_equal(first.x, second.x)
    assert int((first.x > 1e-9).sum()) <= jobs + flavors


def test_a_resolver_follows_changed_bounds() -> None:
    resolver = Resolver(_program())
    first = resolver.solve()
    resolver.bound(0, 0.0, 1.0)
    second = resolver.solve()
    resolver.bound(0, 5.0, 5.0)
    third = resolver.solve()
    assert first is not None
    assert second is not None
    assert (first.objective, second.objective) == pytest.approx((12.0, 3.0 + 2 * 5 / 3))
    assert third is None
