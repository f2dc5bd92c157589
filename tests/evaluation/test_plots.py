from io import BytesIO
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mien.emotions import EMOTIONS
from mien.evaluation import plots
from mien.evaluation.metrics import ClassFigures, Estimate, Reliability

RISKS = ((0.01, 0.0), (0.25, 0.1), (0.5, 0.2), (0.75, 0.3), (1.0, 0.4))
RELIABILITY = Reliability((0.0, 0.25, 0.5, 0.75), (0, 3, 0, 5), (None, 0.4, None, 0.9), (None, 2 / 3, None, 0.6))
HISTORY = [
    {"epoch": 1, "accuracy": 0.3, "loss": 1.8, "val_accuracy": 0.35, "val_loss": 1.7, "learning_rate": 1e-3},
    {"epoch": 2, "accuracy": 0.5, "loss": 1.4, "val_accuracy": 0.45, "val_loss": 1.5, "learning_rate": 5e-4},
]
CORRUPTIONS = {"blur": (0.6, 0.5), "noise": (0.55, 0.3), "low light": (0.6, 0.6), "JPEG": (0.6, 0.59)}


def class_figures(name: str, *, missing: bool = False) -> ClassFigures:
    if missing:
        return ClassFigures(name, support=0, predicted=0, precision=None, recall=None, f1=None)
    recall, precision = Estimate(0.6, 0.5, 0.7), Estimate(0.75, 0.65, 0.85)
    return ClassFigures(name, support=100, predicted=80, precision=precision, recall=recall, f1=2 / 3)


def confusion(classes: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2000, (classes, classes))


PLOTS = {
    "confusion": lambda: plots.confusion_plot(confusion(7), EMOTIONS),
    "classes": lambda: plots.class_bars_plot([class_figures("happy"), class_figures("sad", missing=True)]),
    "reliability": lambda: plots.reliability_plot(RELIABILITY),
    "risk": lambda: plots.risk_coverage_plot(RISKS),
    "history": lambda: plots.history_plot(HISTORY),
    "corruptions": lambda: plots.corruption_plot(CORRUPTIONS, clean=0.65),
}


def words(figure: Figure) -> list[str]:
    """Every text that the SVG shows."""
    root = ElementTree.fromstring(plots.as_svg(figure))
    return ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]


def line(axes, colour: str) -> list[tuple[float, float]]:
    """The points of the first line of this colour."""
    (first, *_) = [one for one in axes.lines if one.get_color() == colour and len(one.get_xdata()) > 1]
    return list(zip(first.get_xdata(), first.get_ydata(), strict=True))


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_is_a_picture_on_white_paper(name: str):
    picture = np.asarray(Image.open(BytesIO(plots.as_png(PLOTS[name]()))).convert("L"))
    assert picture.shape[1] >= 900
    assert picture[0, 0] == 255, "the paper is white"
    assert (picture < 128).mean() > 0.001, "there is ink on it"


@pytest.mark.parametrize("name", PLOTS)
def test_svg_is_the_same_for_the_same_figure(name: str):
    assert plots.as_svg(PLOTS[name]()) == plots.as_svg(PLOTS[name]())


def test_svg_marks_of_two_names_share_no_identity():
    figure = plots.history_plot([{"loss": 2.0}])
    first, second = (
        {element.get("id") for element in ElementTree.fromstring(plots.as_svg(figure, name=name)).iter()} - {None}
        for name in ("one", "two")
    )
    assert first
    assert not first & second


def test_plots_leave_the_settings_of_matplotlib_alone():
    before = dict(matplotlib.rcParams)
    figure = plots.risk_coverage_plot(RISKS)
    plots.as_svg(figure)
    plots.as_png(figure)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("count", [1, 2, 10])
def test_confusion_shows_every_count_and_class(count):
    names = [f"class {index}" for index in range(count)]
    matrix = confusion(count)
    shown = words(plots.confusion_plot(matrix, names))
    assert set(names) <= set(shown)
    assert sorted(text for text in shown if text.isdigit()) == sorted(map(str, matrix.ravel()))


def test_confusion_percentages_are_of_the_row():
    shown = words(plots.confusion_plot(np.array([[3, 1], [1, 999]]), ["rare", "common"]))
    assert [text for text in shown if text.endswith("%")] == ["75%", "25%", "<1%", "100%"]


def test_confusion_of_an_empty_row_has_no_percentages():
    shown = words(plots.confusion_plot(np.array([[4, 0], [0, 0]]), ["seen", "unseen"]))
    assert [text for text in shown if text.endswith("%")] == ["100%"]


def test_confusion_is_blue_where_right_and_orange_where_wrong():
    (axes,) = plots.confusion_plot(np.array([[3, 1], [2, 2]]), ["a", "b"]).axes
    colours = [matplotlib.colors.to_hex(patch.get_facecolor()) for patch in axes.patches]
    assert colours == [plots.BLUE, plots.ORANGE, plots.ORANGE, plots.BLUE]
    depths = [patch.get_alpha() for patch in axes.patches]
    assert depths[0] > depths[2] == depths[3] > depths[1]


def test_class_names_are_text_and_not_formulae_or_markup():
    names = ["$x_1$", "<b> & \\frac", "a name that is far too long to be shown whole"]
    shown = words(plots.confusion_plot(confusion(3), names))
    assert {"$x_1$", "<b> & \\frac", "a name that i…"} <= set(shown)


def test_class_bars_are_recall_and_precision_with_their_intervals():
    (axes,) = plots.class_bars_plot([class_figures("happy"), class_figures("sad")]).axes
    assert [bar.get_width() for bar in axes.patches] == [0.6, 0.75, 0.6, 0.75]
    assert [list(one.get_xdata()) for one in axes.lines[:3]] == [[0.5, 0.7], [0.65, 0.85], [2 / 3]]


def test_class_bars_say_undefined():
    shown = words(plots.class_bars_plot([class_figures("happy"), class_figures("sad", missing=True)]))
    assert shown.count("undefined") == 2


def test_reliability_has_a_dot_for_each_bin_with_images():
    above, below = plots.reliability_plot(RELIABILITY).axes
    assert line(above, plots.BLUE) == [(0.4, 2 / 3), (0.9, 0.6)]
    assert [bar.get_height() for bar in below.patches] == [0, 3, 0, 5]
    assert below.patches[1].get_x() == pytest.approx(0.25, abs=0.02)


def test_risk_coverage_is_the_curve_it_is_given():
    figure = plots.risk_coverage_plot(RISKS)
    assert line(figure.axes[0], plots.ORANGE) == list(RISKS)
    assert {"10% wrong", "20% wrong", "30% wrong", "40% wrong"} <= set(words(figure))


def test_risk_coverage_of_one_image():
    assert "0% wrong" in words(plots.risk_coverage_plot(((1.0, 0.0),)))


def test_history_shows_training_and_validation():
    accuracy, loss, rate = plots.history_plot(HISTORY).axes
    assert line(accuracy, plots.SKY) == [(1, 0.3), (2, 0.5)]
    assert line(loss, plots.BLUE) == [(1, 1.7), (2, 1.5)]
    assert line(rate, plots.SKY) == [(1, 1e-3), (2, 5e-4)]


def test_history_leaves_out_what_is_not_there():
    figure = plots.history_plot([{"loss": 2.0}, {"loss": float("nan")}])
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss"]
    assert "validation" not in words(figure)


def test_corruptions_start_at_the_clean_accuracy():
    panels = plots.corruption_plot(CORRUPTIONS, clean=0.65).axes
    shown = {axes.get_title(loc="left"): line(axes, plots.ORANGE) for axes in panels if axes.get_visible()}
    assert list(shown) == list(CORRUPTIONS)
    assert shown["noise"] == [(0, 0.65), (1, 0.55), (2, 0.3)]
