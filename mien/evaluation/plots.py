"""Figures in, pictures out: every plot of a report in one style, as PNG or SVG."""

import re
from collections.abc import Mapping, Sequence
from io import BytesIO, StringIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mien.emotions import ConfusionMatrix
from mien.evaluation.metrics import ClassFigures, Estimate, Reliability

History = Sequence[Mapping[str, int | float]]  # a row an epoch

# Blue says right, orange says wrong. Both are Okabe and Ito's (2008), told apart by every kind of colour vision.
BLUE, ORANGE, SKY = "#0072b2", "#d55e00", "#56b4e9"
INK, MUTED, RULE = "#1c2430", "#5f6b7a", "#dce1e8"
WIDTH = 4.0  # inches: that of a phone, where 9-point text stays near 9 points
LONGEST = 14  # characters of a class name that is shown whole

STYLE: dict[Any, Any] = {
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Helvetica Neue", "Arial", "sans-serif"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$5"
    "axes.labelcolor": MUTED,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.labelcolor": INK,
}
DIAMOND: dict[str, Any] = {
    "color": INK,
    "marker": "D",
    "markersize": 6,
    "markeredgecolor": "white",
    "linestyle": "none",
}

styled = matplotlib.rc_context(STYLE)


@styled
def confusion_plot(confusion: ConfusionMatrix, classes: Sequence[str]) -> Figure:
    """Counts and row percent: right answers blue, mistakes orange, the deeper the larger their share of the row."""
    names = shorten(classes)
    side = max(WIDTH, 0.42 * len(names) + 0.08 * max(map(len, names)) + 0.3)
    figure = Figure(figsize=(side, 0.94 * side))
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    for (row, column), share in np.ndenumerate(shares):
        draw_cell(axes, row, column, count=int(confusion[row, column]), share=float(share))
    axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5), aspect="equal", ylabel="labelled")
    axes.set_xlabel("predicted")
    axes.xaxis.set_label_position("top")
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(classes)), names, rotation=40, ha="left", rotation_mode="anchor", color=INK)
    axes.set_yticks(range(len(classes)), names, color=INK)
    bare(axes)
    return figure


@styled
def class_bars_plot(per_class: Sequence[ClassFigures]) -> Figure:
    """Recall, precision and F1 of each class, with the 95 % intervals of the first two."""
    figure = Figure(figsize=(WIDTH, 0.7 + 0.46 * len(per_class)))
    axes = figure.subplots()
    for row, one in enumerate(per_class):
        draw_bar(axes, row - 0.18, one.recall, colour=BLUE)
        draw_bar(axes, row + 0.18, one.precision, colour=SKY)
        if one.f1 is not None:
            axes.plot([one.f1], [row], **DIAMOND)
    keys = [
        Patch(color=BLUE, label="recall"),
        Patch(color=SKY, label="precision"),
        Line2D([], [], label="F1", **DIAMOND),
    ]
    axes.set(xlim=(0, 1), ylim=(len(per_class) - 0.5, -0.5))
    axes.set_yticks(range(len(per_class)), shorten([one.name for one in per_class]), color=INK)
    axes.grid(axis="y", visible=False)
    in_percent(axes.xaxis)
    figure.legend(handles=keys, loc="outside upper right", ncols=3)
    return figure


@styled
def reliability_plot(reliability: Reliability) -> Figure:
    """Accuracy against confidence, bin by bin, above how many images fall in each bin."""
    figure = Figure(figsize=(WIDTH, 4.4))
    above, below = figure.subplots(2, sharex=True, height_ratios=(4, 1))
    filled = [
        (confidence, accuracy)
        for confidence, accuracy in zip(reliability.confidences, reliability.accuracies, strict=True)
        if confidence is not None and accuracy is not None
    ]
    for confidence, accuracy in filled:
        above.plot([confidence, confidence], [confidence, accuracy], color=ORANGE, solid_capstyle="butt")
    above.axline((0, 0), slope=1, color=MUTED, linewidth=1, linestyle=(0, (3, 3)))
    above.plot(*zip(*filled, strict=True), "o", color=BLUE, markersize=6, markeredgecolor="white")
    above.text(0.04, 0.93, "more often right\nthan it is sure", color=MUTED, va="top")
    above.text(0.97, 0.06, "surer than\nit is right", color=MUTED, ha="right")
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    width = 1 / len(reliability.counts)
    below.bar(reliability.low_edges, reliability.counts, width=0.9 * width, align="edge", color=SKY)
    below.set(xlabel="confidence", ylabel="images")
    below.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    in_percent(above.xaxis, above.yaxis)
    figure.align_ylabels()
    return figure


@styled
def risk_coverage_plot(risk_coverage: Sequence[tuple[float, float]]) -> Figure:
    """The share of wrong answers when only the surest ones are given, from none of them to all."""
    figure = Figure(figsize=(WIDTH, 3.2))
    axes = figure.subplots()
    coverages, risks = np.array(risk_coverage).T
    axes.fill_between(coverages, risks, color=ORANGE, alpha=0.12, linewidth=0)
    axes.plot(coverages, risks, color=ORANGE)
    for coverage in (0.25, 0.5, 0.75, 1.0):
        nearest = int(np.abs(coverages - coverage).argmin())
        mark(axes, float(coverages[nearest]), float(risks[nearest]))
    axes.set(xlim=(0, 1.04), ylim=(0, max(0.05, 1.25 * risks.max())))
    axes.set(xlabel="answered, the surest first", ylabel="of those, wrong")
    in_percent(axes.xaxis, axes.yaxis)
    return figure


@styled
def history_plot(history: History) -> Figure:
    """Accuracy, loss and learning rate by epoch, in training and validation; a panel without figures is left out."""
    curves = ("accuracy", "loss", "learning_rate")
    panels = [name for name in curves if any({name, f"val_{name}"} & epoch.keys() for epoch in history)]
    heights = [1 if name == "learning_rate" else 2.2 for name in panels]
    figure = Figure(figsize=(WIDTH, 0.85 * sum(heights) + 0.6))
    grid = figure.subplots(len(panels), sharex=True, height_ratios=heights, squeeze=False)
    for axes, name in zip(grid[:, 0], panels, strict=True):
        draw_curves(axes, history, name)
    figure.axes[-1].set_xlabel("epoch")
    figure.axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    figure.align_ylabels()
    return figure


@styled
def corruption_plot(corruptions: Mapping[str, Sequence[float]], *, clean: float) -> Figure:
    """Accuracy by strength of each corruption, a small panel each over the faint curves of the others.

    corruptions: accuracies at strengths 1, 2, 3… by name. clean: accuracy on the untouched images, drawn at strength 0.
    """
    columns = min(3, len(corruptions))
    rows = -(-len(corruptions) // columns)
    figure = Figure(figsize=(WIDTH, 0.4 + 1.15 * rows))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(grid, corruptions, strict=False):
        for other in corruptions.values():
            axes.plot([clean, *other], color=RULE, linewidth=1)
        axes.plot([clean, *corruptions[name]], color=ORANGE, marker="o", markersize=3)
        axes.axhline(clean, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
        axes.set_title(name)
        axes.set(ylim=(0, min(1, 1.15 * clean)))
        in_percent(axes.yaxis)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in grid[len(corruptions) :]:
        axes.set_visible(False)
    figure.supxlabel("strength", color=MUTED, fontsize=9)
    return figure


@styled
def as_png(figure: Figure) -> bytes:
    """The figure as PNG at 240 pixels an inch, on white."""
    file = BytesIO()
    figure.savefig(file, format="png", dpi=240, metadata={"Software": None})
    return file.getvalue()


def as_svg(figure: Figure, *, name: str = "plot") -> str:
    """The figure as SVG with real text on no background: the same characters for the same figure.

    name: plots that share a page need one each, so that their marks and clipping paths do not share identities.
    """
    file = StringIO()
    undated = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata=undated)
    return re.sub(r' id="[\w.]+_\d+"', "", file.getvalue())  # "axes_1" and its like, which no other element refers to


def draw_cell(axes: Axes, row: int, column: int, *, count: int, share: float) -> None:
    """One cell of a confusion matrix; nothing is nothing, so it has no percentage."""
    depth = share**0.7  # mistakes are mostly small shares, and should still be told apart
    colour, ink = (BLUE if row == column else ORANGE), ("white" if depth > 0.85 else INK)
    axes.add_patch(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, color=colour, alpha=depth, linewidth=0))
    if not count:
        axes.text(column, row, "0", ha="center", va="center", color=MUTED)
        return
    axes.text(column, row, f"{count}", ha="center", va="bottom", color=ink, fontsize=9 if count < 10_000 else 6.5)
    percent = f"{share:.0%}" if share >= 0.005 else "<1%"
    axes.text(column, row + 0.06, percent, ha="center", va="top", color=ink, fontsize=7)


def draw_bar(axes: Axes, y: float, estimate: Estimate | None, *, colour: str) -> None:
    if estimate is None:
        axes.text(0.01, y, "undefined", color=MUTED, va="center", fontsize=8)
        return
    axes.barh(y, estimate.value, height=0.34, color=colour)
    axes.plot([estimate.low, estimate.high], [y, y], color=INK, linewidth=1, alpha=0.75)


def draw_curves(axes: Axes, history: History, name: str) -> None:
    style = "steps-post" if name == "learning_rate" else "default"
    for column, label, colour in ((name, "training", SKY), (f"val_{name}", "validation", BLUE)):
        points = [(epoch.get("epoch", index), epoch[column]) for index, epoch in enumerate(history) if column in epoch]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, label=label, drawstyle=style, marker=".", markersize=4)
    axes.set_ylabel(name.replace("_", " "))
    if name == "accuracy":
        in_percent(axes.yaxis)
    if name == "learning_rate":
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(2))
        axes.yaxis.set_major_formatter("{x:g}")


def mark(axes: Axes, coverage: float, risk: float) -> None:
    axes.plot([coverage], [risk], "o", color=ORANGE, markeredgecolor="white")
    axes.annotate(f"{risk:.0%} wrong", (coverage, risk), (-2, 6), textcoords="offset points", ha="right", va="bottom")


def shorten(names: Sequence[str]) -> list[str]:
    """Names that leave room for what they name."""
    return [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in names]


def in_percent(*all_axis: Axis) -> None:
    for axis in all_axis:
        axis.set_major_formatter(PercentFormatter(1, decimals=0))


def bare(axes: Axes) -> None:
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
