"""Rollouts and experiments for people: what the API answers, as tables and bars."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fabric.show import duration, table
from serve_apps.rollout.rollout import Rollout
from serve_apps.rollout.words import value_text

BAR = 40


def rollout_form(rollout: Rollout, *, model: str) -> dict[str, Any]:
    """The one JSON form of a rollout: the API, `-o json` and the console have it."""
    decision = rollout.decision().as_json()
    figures = decision.pop("figures")
    decision.pop("fact")
    return {
        "model": model,
        "champion": rollout.champion,
        "challenger": rollout.challenger,
        "began_s": rollout.began_s,
        "soaked_s": rollout.soaked_s,
        "step": rollout.step,
        "spec": rollout.spec.as_json(),
        **decision,
        "guards": figures,
        "history": list(rollout.history),
    }


def render_rollout(form: Mapping[str, Any], now_s: float | None = None) -> str:
    """`fabric rollout status`."""
    now_s = time.time() if now_s is None else now_s
    state = form["state"].replace("_", " ")
    lines = [
        f"{form['model']}: {form['champion']} -> {form['challenger']}, {state}: {form['reason']}",
        f"began {duration(now_s - form['began_s'])} ago; steps {_steps(form)}",
        "",
        *_bars(form["shares"]),
        "",
        _guards(form["guards"]),
    ]
    if form["history"]:
        lines += ["", *(f"{duration(now_s - one['at_s'])} ago: {one['to'].replace('_', ' ')}, {one['reason']}" for one in form["history"])]
    return "\n".join(lines)


def render_rollouts(forms: list[Mapping[str, Any]]) -> str:
    """One line each."""
    if not forms:
        return "no rollout; `fabric rollout start MODEL --to VERSION` begins one"
    rows = [
        [form["model"], form["champion"], form["challenger"], form["state"].replace("_", " "), f"{form['percent']:g} %", form["reason"]]
        for form in forms
    ]
    return table(["model", "champion", "challenger", "state", "step", "why"], rows, right=(4,))


def render_experiment(form: Mapping[str, Any]) -> str:
    """`fabric experiment status`."""
    rows = [
        [
            arm["arm"],
            f"{arm['weight']:g} %",
            str(arm["num_values"]),
            f"{arm['mean']:.4g}" if arm["mean"] is not None else "-",
            _interval(arm["interval"]),
            _interval(arm["difference"]),
        ]
        for arm in form["arms"]
    ]
    head = f"{form['model']}: {form['metric']}, {form['state']}: {form['reason']}"
    columns = ["arm", "weight", "values", "mean", "lies in", f"minus {form['arms'][0]['arm']}"]
    return f"{head}\n\n{table(columns, rows, right=(1, 2, 3))}"


def _steps(form: Mapping[str, Any]) -> str:
    at = form["percent"]
    return ", ".join(f"[{step:g} %]" if step == at else f"{step:g} %" for step in form["spec"]["steps"])


def _bars(shares: Mapping[str, int]) -> list[str]:
    width = max(len(name) for name in shares)
    lines = []
    for name, share in shares.items():
        filled = 0 if share == 0 else max(1, round(BAR * share / 10_000))
        lines.append(f"{name:>{width}} {'█' * filled}{'░' * (BAR - filled)} {share / 100:g} %")
    return lines


def _guards(figures: list[Mapping[str, Any]]) -> str:
    rows = []
    for one in figures:
        guard, leans = one["guard"], one["leans"]
        confidence = "-" if not leans else f"{100 * one['confidence']:.4g} % {leans}"
        values = [value_text(guard, one[key]) for key in ("value", "champion", "bound")]
        rows.append([guard, one["verdict"], *values, str(one["num_samples"]), confidence])
    return table(["guard", "verdict", "challenger", "champion", "bound", "samples", "confidence"], rows, right=(2, 3, 4, 5))


def _interval(interval: list[float] | tuple[float, float] | None) -> str:
    return "-" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"
