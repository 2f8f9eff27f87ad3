"""Draws the roofline of a report: one line per flavor with its ridge, the task's intensity, predicted and measured points.

Both axes are logarithmic. A flavor's line is what its catalogue entry allows at an intensity, in the precision in which the task
would run there; what is drawn below it is what a call is predicted, or was measured, to reach. Needs matplotlib (`[profile]`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fabric.config import FabricConfig
from fabric.errors import UserError
from fabric.profiling.report import quantity, size
from fabric.show import duration
from fabric.types import Flavor
from pools.flavors import load_catalogue

SUFFIXES = (".png", ".svg", ".pdf")
_WIDTH_IN, _HEIGHT_IN, _DPI = 11.0, 7.0, 160
_TIER_COLOURS = ("#c8442c", "#2f6fb0", "#3d8a5f", "#8757a8", "#9a7b22")
_INK, _FAINT = "#222222", "#8a8a8a"
_LABEL_GAP = 0.0285
"""Of the axes' height, between two labels."""


@dataclass(frozen=True, slots=True)
class Line:
    """One flavor on the picture. `peak_flops` and `bandwidth` are of all its units."""

    name: str
    tier: str
    peak_flops: float
    bandwidth: float
    intensity: float
    reached_flops: float
    log_sd: float
    is_measured: bool
    run_s: float

    @property
    def ridge(self) -> float:
        """FLOP/B from which on computing, not memory, is the limit."""
        return self.peak_flops / self.bandwidth

    def roof(self, intensity: float) -> float:
        return min(self.peak_flops, self.bandwidth * intensity)


def check_picture(path: Path) -> None:
    """Before anything runs. Raises: UserError `unknown_format`, `missing_package`, `no_directory`."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: a picture ends in {', '.join(SUFFIXES)}", code="unknown_format", hint=f"--png {path.stem}.png")
    if find_spec("matplotlib") is None:
        hint = "pip install 'tierfabric[profile]'"
        raise UserError("a picture needs the package matplotlib", code="missing_package", hint=hint, package="matplotlib")
    if not path.resolve().parent.is_dir():
        raise UserError(f"there is no directory {path.resolve().parent}", code="no_directory", hint="make it first")


def lines_of(form: Mapping[str, Any], catalogue: Mapping[str, Flavor]) -> list[Line]:
    """Pure: what is drawn, highest roof first. What ran on a twin says nothing about the hardware that it stands for: that is predicted."""
    from profiler.roofline import Cost, moved_bytes_as, predict

    cost = Cost(form["flops"], form["moved_bytes"], form["dtype"], num_kernels=form["num_kernels"])
    lines = []
    for row in form["flavors"]:
        flavor = catalogue[row["flavor"]]
        if row["run_s"] is None or row["dtype"] is None or flavor.bandwidth_bytes_per_s is None:
            continue
        run_s, log_sd, is_measured = row["run_s"], row["run_log_sd"], row["source"] == "measured"
        if row["twin"] and is_measured:
            guess = predict(cost, flavor, dtype=row["dtype"], units=row["units"])
            if guess is None:
                continue
            run_s, log_sd, is_measured = guess.run_s, guess.log_sd, False
        lines.append(
            Line(
                row["flavor"] + (f" ×{row['units']:g}" if row["units"] != 1 else ""),
                row["tier"],
                flavor.peak_flops[row["dtype"]] * row["units"],
                flavor.bandwidth_bytes_per_s * row["units"],
                cost.flops / max(moved_bytes_as(cost, row["dtype"]), 1.0),
                cost.flops / run_s,
                log_sd,
                is_measured,
                run_s,
            )
        )
    return sorted(lines, key=lambda line: -line.peak_flops)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Pure: places from high to low moved apart to at least `gap`, within [low, high], each as near as may be to where it was."""
    if not places:
        return []
    gap = min(gap, (high - low) / max(len(places) - 1, 1))
    # Groups that overlap are merged; each stands around the mean of where its members were (as in isotonic regression).
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while len(groups) > 1 and _bottom(groups[-2], gap) - gap < _top(groups[-1], gap):
            last = groups.pop()
            groups[-1] += last
    moved = [_top(group, gap) - index * gap for group in groups for index in range(len(group))]
    for index in range(len(moved)):
        moved[index] = min(moved[index], high - index * gap, moved[index - 1] - gap if index else high)
    for index in range(len(moved)):
        moved[-1 - index] = max(moved[-1 - index], low + index * gap)
    return moved


def _top(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) + (len(group) - 1) * gap / 2


def _bottom(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) - (len(group) - 1) * gap / 2


def draw(form: Mapping[str, Any], config: FabricConfig, path: Path) -> None:
    """Write the picture. Raises: UserError `no_roofline` where FLOPs or every flavor's figures are unknown."""
    catalogue = load_catalogue(config.flavors, tiers=config.tier_names)
    lines = lines_of(form, catalogue) if form["flops"] else []
    if not lines:
        hint = "a model file has them, and a callable that uses torch"
        raise UserError("there is no roofline: the FLOPs of this target are not known", code="no_roofline", hint=hint)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH_IN, _HEIGHT_IN), facecolor="white")
    axes = figure.add_axes((0.088, 0.1, 0.675, 0.755))
    colours = {tier: _TIER_COLOURS[i % len(_TIER_COLOURS)] for i, tier in enumerate(config.tier_names)}
    marked = {form["cheapest"], form["fastest"]}
    _frame(axes, lines)
    _roofs(axes, lines, colours, marked)
    _task(axes, form)
    _points(axes, lines, colours)
    _labels(axes, lines, colours, form)
    _words(figure, axes, form, colours, lines)
    figure.savefig(path, dpi=_DPI)


def _frame(axes: Any, lines: Sequence[Line]) -> None:
    xs = [value for line in lines for value in (line.ridge, line.intensity)]
    ys = [value for line in lines for value in (line.peak_flops, line.reached_flops * math.exp(-line.log_sd))]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(min(xs) / 5, max(xs) * 3)
    axes.set_ylim(min(min(ys) / 2.5, max(ys) / 1e4), max(ys) * 1.8)
    axes.grid(which="major", color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#b8b8b8")
    axes.tick_params(which="both", colors="#555555", labelsize=9, length=3)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{quantity(value)}FLOP/s".replace(" ", " "))
    axes.set_xlabel("operational intensity, FLOP per byte moved", fontsize=10, color=_INK, labelpad=6)


def _roofs(axes: Any, lines: Sequence[Line], colours: Mapping[str, str], marked: set[Any]) -> None:
    low, high = axes.get_xlim()
    for line in lines:
        is_marked = line.is_measured or line.name in marked
        xs = [low, line.ridge, high]
        style = {"linewidth": 1.9, "alpha": 0.95, "zorder": 3} if is_marked else {"linewidth": 0.9, "alpha": 0.38, "zorder": 2}
        axes.plot(xs, [line.roof(x) for x in xs], color=colours[line.tier], solid_joinstyle="round", **style)
        axes.plot([line.ridge], [line.peak_flops], marker="|", markersize=6, color=colours[line.tier], **style)


def _task(axes: Any, form: Mapping[str, Any]) -> None:
    intensity = form["intensity"]
    axes.axvline(intensity, color=_INK, linewidth=1.0, linestyle=(0, (5, 3)), zorder=1.5)
    text = f" this task: {intensity:.3g} FLOP/B"
    axes.annotate(
        text,
        (intensity, 1.0),
        xycoords=axes.get_xaxis_transform(),
        xytext=(3, -1),
        textcoords="offset points",
        fontsize=9,
        color=_INK,
        va="top",
    )


def _points(axes: Any, lines: Sequence[Line], colours: Mapping[str, str]) -> None:
    for line in lines:
        colour = colours[line.tier]
        low, high = (line.reached_flops * math.exp(sign * line.log_sd) for sign in (-1, 1))
        if line.is_measured:
            axes.plot(
                [line.intensity],
                [line.reached_flops],
                "D",
                markersize=8,
                color=colour,
                markeredgecolor="white",
                markeredgewidth=1.2,
                zorder=6,
            )
        else:
            axes.plot([line.intensity] * 2, [low, high], color=colour, linewidth=0.8, alpha=0.35, zorder=4)
            axes.plot(
                [line.intensity],
                [line.reached_flops],
                "o",
                markersize=5,
                markerfacecolor="white",
                color=colour,
                markeredgewidth=1.1,
                zorder=5,
            )


def _labels(axes: Any, lines: Sequence[Line], colours: Mapping[str, str], form: Mapping[str, Any]) -> None:
    """Names at the right, each joined to the end of its roof, moved apart where roofs lie close."""
    bottom, top = (math.log(limit) for limit in axes.get_ylim())
    ends = [(math.log(line.peak_flops) - bottom) / (top - bottom) for line in lines]
    for line, end, place in zip(lines, ends, spread(ends, _LABEL_GAP, 0.02, 1.0), strict=True):
        words = [word for word in ("cheapest", "fastest") if form[word] == line.name]
        words += ["measured"] if line.is_measured else []
        said = f"{line.name}  {duration(line.run_s)}" + (f"  {', '.join(words)}" if words else "")
        weight = "bold" if words else "normal"
        axes.annotate(
            said,
            (1.0, end),
            xycoords="axes fraction",
            xytext=(1.025, place),
            textcoords="axes fraction",
            fontsize=8,
            color=colours[line.tier],
            fontweight=weight,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colours[line.tier],
                "alpha": 0.4,
                "linewidth": 0.7,
                "shrinkA": 2,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def _words(figure: Any, axes: Any, form: Mapping[str, Any], colours: Mapping[str, str], lines: Sequence[Line]) -> None:
    from matplotlib.lines import Line2D

    title = f"{Path(form['target']).name}: {form['domain']} {form['phase']}"
    figure.text(0.088, 0.945, title, fontsize=15, fontweight="bold", color=_INK)
    work = f"{quantity(form['flops'])}FLOP and {size(form['moved_bytes'])} moved per call, {form['dtype']}"
    figure.text(0.088, 0.908, f"{work}.  Roofs: the catalogue's peaks; points: what one call reaches.", fontsize=9.5, color="#555555")
    handles = [Line2D([], [], color=colours[tier], linewidth=2, label=tier) for tier in colours if any(line.tier == tier for line in lines)]
    handles.append(Line2D([], [], color=_FAINT, marker="o", markerfacecolor="white", linestyle="", label="predicted, ±1 sd"))
    if any(line.is_measured for line in lines):
        handles.append(Line2D([], [], color=_FAINT, marker="D", linestyle="", label="measured"))
    handles.append(Line2D([], [], color=_FAINT, marker="|", linestyle="", label="ridge"))
    axes.legend(handles=handles, loc="lower right", fontsize=8.5, frameon=True, framealpha=0.9, edgecolor="#dddddd", ncols=2)
