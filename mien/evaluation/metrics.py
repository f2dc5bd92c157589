"""Labels and probabilities in, figures out: how often right, how sure, and how far chance alone could move each."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Num
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, log_loss

from mien.emotions import ConfusionMatrix, Labels, Probabilities
from mien.errors import DataError

LEVEL = 0.95  # of every interval
BINS = 15  # of equal width, as Guo et al. 2017 report ECE
CURVE_POINTS = 101  # of the risk-coverage curve: one a per cent
SUM_TOLERANCE = 1e-3  # how far from one a row may sum: a half-precision softmax passes, logits do not

BLOCK = 500  # bootstrap samples drawn at once: a sample of two models' 50 classes may fill a cell an image

Counts = Num[np.ndarray, "*cells"]
Shares = Float64[np.ndarray, "*cells"]  # NaN where there is nothing to share
Figure = Float64[np.ndarray, " draws"]  # one figure of each bootstrap sample, the images themselves first
Confidences = Float64[np.ndarray, " n"]
Rows = Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Tallies:
    """All that accuracy and F1 need to know: images of each class rightly predicted, labelled and predicted so."""

    hits: Num[np.ndarray, "*draws classes"]
    labelled: Num[np.ndarray, "*draws classes"]
    predicted: Num[np.ndarray, "*draws classes"]


@dataclass(frozen=True)
class ClassFigures:
    """One class: `support` images carry its label, `predicted` were given it.

    precision is None where the class was never predicted, recall where no image carries its label; their intervals are
    Wilson's (1927). f1 = 2 TP / (2 TP + FP + FN) is None only where both are; macro-F1 is the mean of the others, so a
    class that is always missed counts there as 0.
    """

    name: str
    support: int
    predicted: int
    precision: Estimate | None
    recall: Estimate | None
    f1: float | None


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, bin by bin: bin i holds low_edges[i] < confidence <= low_edges[i] + 1/15.

    confidences and accuracies are means over the bin's images, None where it has none.
    """

    low_edges: tuple[float, ...]
    counts: tuple[int, ...]
    confidences: tuple[float | None, ...]
    accuracies: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class Figures:
    """What `measure` finds: fractions 0..1, but nll in nats and brier 0..2.

    nll, brier, ece and aurc are better when lower. confusion: rows are true classes, columns predicted ones.
    risk_coverage: (share of images answered, most confident first; share of those that are wrong), at most 101 points.
    """

    classes: tuple[str, ...]
    images: int
    accuracy: Estimate
    macro_f1: Estimate
    balanced_accuracy: float
    top_2: float
    per_class: tuple[ClassFigures, ...]
    confusion: ConfusionMatrix
    nll: float
    brier: float
    ece: float
    reliability: Reliability
    risk_coverage: tuple[tuple[float, float], ...]
    aurc: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; None is a figure that is not defined."""
        return plain(self)


@dataclass(frozen=True)
class Comparison:
    """A second model against a first on the same images; differences are second minus first: above 0, it is better.

    first_only and second_only count the images that one alone gets right; p_value is the exact two-sided test that
    either is as likely (McNemar 1947), 1 where there are none.
    """

    images: int
    accuracy_difference: Estimate
    macro_f1_difference: Estimate
    first_only: int
    second_only: int
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return plain(self)


def measure(
    labels: Labels, probabilities: Probabilities, *, classes: tuple[str, ...], draws: int = 10_000, seed: int = 0
) -> Figures:
    """Judge predictions by their labels; the likeliest class is predicted, the first of those that tie.

    labels: (n,), 0..classes-1. probabilities: (n, classes), rows sum to one. Intervals of accuracy and macro-F1 are
    percentile bootstraps over images (Efron 1979). Macro-F1 is the mean over classes that are labelled or predicted, as
    in scikit-learn; balanced accuracy, the mean over those that are labelled. Brier sums over classes (Brier 1950);
    ece is Guo et al. 2017, aurc Geifman & El-Yaniv 2018. Raises DataError as `check_probabilities` does.
    """
    check_probabilities(labels, probabilities, classes)
    exact = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    confidences, right = exact.max(axis=1), probabilities.argmax(axis=1) == labels
    confusion = count_confusion(labels, probabilities)
    (tallies,) = resample(labels, probabilities.argmax(axis=1), classes=len(classes), draws=draws, seed=seed)
    reliability = bin_by_confidence(confidences, right)
    risks = risk_by_coverage(confidences, right)
    return Figures(
        classes=classes,
        images=len(labels),
        accuracy=estimate(accuracy(tallies)),
        macro_f1=estimate(macro_f1(tallies)),
        balanced_accuracy=float(np.nanmean(ratio(confusion.diagonal(), confusion.sum(axis=1)))),
        top_2=top_2(labels, probabilities),
        per_class=figures_by_class(confusion, classes),
        confusion=confusion,
        nll=float(log_loss(labels, exact, labels=range(len(classes)))),
        brier=float(np.square(exact - np.eye(len(classes))[labels]).sum(axis=1).mean()),
        ece=calibration_error(reliability),
        reliability=reliability,
        risk_coverage=thin(risks),
        aurc=float(risks.mean()),
    )


def compare(
    labels: Labels, first: Probabilities, second: Probabilities, *, draws: int = 10_000, seed: int = 0
) -> Comparison:
    """Judge whether a second model is better than a first, image by image.

    Both (n, classes), for the same n labels. Intervals are paired percentile bootstraps: both models are judged on
    each resample of the images. Raises DataError as `check_probabilities` does.
    """
    classes = tuple(f"class {index}" for index in range(first.shape[1]))
    for probabilities in (first, second):
        check_probabilities(labels, probabilities, classes)
    predicted = [rows.argmax(axis=1) for rows in (first, second)]
    one, other = resample(labels, *predicted, classes=len(classes), draws=draws, seed=seed)
    first_right, second_right = (rows == labels for rows in predicted)
    first_only, second_only = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    return Comparison(
        images=len(labels),
        accuracy_difference=estimate(accuracy(other) - accuracy(one)),
        macro_f1_difference=estimate(macro_f1(other) - macro_f1(one)),
        first_only=first_only,
        second_only=second_only,
        p_value=mcnemar(first_only, second_only),
    )


def check_probabilities(
    labels: Int64[np.ndarray, " labels"], probabilities: Float[np.ndarray, "rows columns"], classes: tuple[str, ...]
) -> None:
    """Raise a DataError unless each image has one label in range and one row over `classes` that sums to one."""
    if not len(labels):
        raise DataError("no images came; expected at least one to judge: is the test set empty?")
    if len(labels) != len(probabilities):
        raise DataError(f"{len(labels)} labels came with {len(probabilities)} rows of probabilities; expected one each")
    if probabilities.shape[1] != len(classes):
        raise DataError(f"probabilities have {probabilities.shape[1]} columns; expected one for each of {classes}")
    if len(classes) < 2:
        raise DataError(f"there is one class, {classes[0]!r}; expected two or more to tell apart")
    sums: Confidences = probabilities.sum(axis=1, dtype=np.float64)
    refuse(labels, (labels < 0) | (labels >= len(classes)), f"a label 0..{len(classes) - 1}, an index into the classes")
    refuse(probabilities, ~np.isfinite(sums), "finite probabilities: did the training diverge?")
    refuse(probabilities, probabilities.min(axis=1) < 0, "no probability below 0: apply softmax to logits first")
    refuse(
        probabilities, np.abs(sums - 1) > SUM_TOLERANCE, "probabilities that sum to 1: apply softmax to logits first"
    )


def refuse(values: Labels | Probabilities, wrong: Rows, expected: str) -> None:
    """Raise a DataError that shows the first wrong row and counts them, if there is one."""
    if wrong.any():
        row = int(wrong.argmax())
        came = np.array2string(values[row], precision=3, max_line_width=10_000)
        raise DataError(f"row {row} is {came} ({wrong.sum()} of {len(wrong)} rows are wrong so); expected {expected}")


def plain(value: Figures | Comparison) -> dict[str, Any]:
    """The fields as a JSON file gives them back."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(value), default=np.ndarray.tolist, allow_nan=False))
    return values


def count_confusion(labels: Labels, probabilities: Probabilities) -> ConfusionMatrix:
    """Images by true class (rows) and predicted class (columns)."""
    matrix: ConfusionMatrix = confusion_matrix(
        labels, probabilities.argmax(axis=1), labels=range(probabilities.shape[1])
    )
    return matrix


def resample(labels: Labels, *predicted: Labels, classes: int, draws: int, seed: int) -> list[Tallies]:
    """What each model gets right: of the images in row 0, of `draws` bootstrap samples of them in the rows after it.

    No figure can tell images apart that have the same label and the same predictions, so drawing n images with
    replacement is one multinomial draw over the combinations that occur: the same distribution, at a cost that does
    not grow with n.
    """
    cells, counts = np.unique(np.stack([labels, *predicted]), axis=1, return_counts=True)
    shares, rng = counts / counts.sum(), np.random.default_rng(seed)

    def tallied(images: Counts) -> list[Tallies]:
        return [tally(images.astype(float), cells[0], model, classes=classes) for model in cells[1:]]

    blocks = [tallied(counts[None])]
    for start in range(0, draws, BLOCK):
        blocks.append(tallied(rng.multinomial(counts.sum(), shares, size=min(BLOCK, draws - start))))
    return [join(list(of_model)) for of_model in zip(*blocks, strict=True)]


def tally(
    images: Float64[np.ndarray, "draws cells"],
    labels: Int64[np.ndarray, " cells"],
    predicted: Int64[np.ndarray, " cells"],
    *,
    classes: int,
) -> Tallies:
    """Tallies of each row of `images`, which counts those of every (label, prediction) in turn."""
    labelled, given = np.eye(classes)[labels], np.eye(classes)[predicted]
    return Tallies(images @ (labelled * given), images @ labelled, images @ given)


def join(tallies: list[Tallies]) -> Tallies:
    return Tallies(*(np.concatenate([getattr(one, part.name) for one in tallies]) for part in fields(Tallies)))


def estimate(figure: Figure) -> Estimate:
    """A figure of the images, in row 0, between percentiles of the same figure of their bootstrap samples."""
    low, high = np.quantile(figure[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(figure[0]), float(low), float(high))


def tally_confusion(confusion: Int64[np.ndarray, "*draws classes classes"]) -> Tallies:
    """Tallies of one confusion matrix, or of each of several."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return Tallies(hits, confusion.sum(axis=-1), confusion.sum(axis=-2))


def accuracy(tallies: Tallies) -> Figure:
    """Share of images that are rightly predicted."""
    return ratio(tallies.hits.sum(axis=-1), tallies.labelled.sum(axis=-1))


def macro_f1(tallies: Tallies) -> Figure:
    """Mean F1 over the classes that are labelled or predicted."""
    f1: Figure = np.nanmean(f1_by_class(tallies), axis=-1)
    return f1


def f1_by_class(tallies: Tallies) -> Float64[np.ndarray, "*draws classes"]:
    """2 TP / (2 TP + FP + FN), NaN where a class is neither labelled nor predicted."""
    return ratio(2 * tallies.hits, tallies.labelled + tallies.predicted)


def ratio(parts: Num[np.ndarray, "*cells"], wholes: Counts) -> Shares:
    """parts / wholes, NaN where a whole is 0."""
    shares: Shares = np.full(wholes.shape, np.nan)
    np.divide(parts, wholes, where=wholes > 0, out=shares)
    return shares


def figures_by_class(confusion: ConfusionMatrix, classes: tuple[str, ...]) -> tuple[ClassFigures, ...]:
    """Precision, recall and F1 of each class."""
    tallies = tally_confusion(confusion)
    columns = (tallies.hits, tallies.labelled, tallies.predicted, f1_by_class(tallies))
    return tuple(
        ClassFigures(
            name=name,
            support=support,
            predicted=predicted,
            precision=wilson(hits, predicted),
            recall=wilson(hits, support),
            f1=None if np.isnan(f1) else f1,
        )
        for name, hits, support, predicted, f1 in zip(classes, *(column.tolist() for column in columns), strict=True)
    )


def wilson(hits: int, trials: int) -> Estimate | None:
    """A share and its score interval (Wilson 1927); None of no trials."""
    if not trials:
        return None
    result = binomtest(hits, trials)
    interval = result.proportion_ci(LEVEL, method="wilson")
    return Estimate(float(result.statistic), float(interval.low), float(interval.high))


def mcnemar(first_only: int, second_only: int) -> float:
    """Exact two-sided p-value that a discordant image favours either model alike (McNemar 1947)."""
    discordant = first_only + second_only
    return float(binomtest(first_only, discordant).pvalue) if discordant else 1.0


def top_2(labels: Labels, probabilities: Probabilities) -> float:
    """Share of images whose label is one of the two likeliest classes; ties go to the first class, as in argmax."""
    likeliest = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    return float((likeliest == labels[:, None]).any(axis=1).mean())


def bin_by_confidence(confidences: Confidences, right: Rows) -> Reliability:
    """Mean confidence and accuracy in BINS equal bins of confidence, open below and closed above (Guo et al. 2017)."""
    edges = np.arange(BINS + 1) / BINS
    bins = np.searchsorted(edges[1:-1], confidences, side="left")
    counts, sums, hits = (np.bincount(bins, weights, BINS) for weights in (None, confidences, right))
    means, shares = ([None if np.isnan(x) else x for x in ratio(total, counts).tolist()] for total in (sums, hits))
    return Reliability(tuple(edges[:-1].tolist()), tuple(counts.tolist()), tuple(means), tuple(shares))


def calibration_error(reliability: Reliability) -> float:
    """Expected calibration error: |accuracy - confidence|, averaged over images bin by bin (Guo et al. 2017)."""
    bins = zip(reliability.counts, reliability.confidences, reliability.accuracies, strict=True)
    gaps = sum(count * abs(share - mean) for count, mean, share in bins if mean is not None and share is not None)
    return gaps / sum(reliability.counts)


def risk_by_coverage(confidences: Confidences, right: Rows) -> Confidences:
    """Share of wrong answers among the k most confident, for k = 1..n (Geifman & El-Yaniv 2017).

    Images that tie are taken in random order, in expectation: the order of the rows must not move the figure.
    """
    _, group = np.unique(-confidences, return_inverse=True)
    risk_of_group = np.bincount(group, ~right) / np.bincount(group)
    risks: Confidences = np.cumsum(risk_of_group[np.sort(group)]) / np.arange(1, len(group) + 1)
    return risks


def thin(risks: Confidences) -> tuple[tuple[float, float], ...]:
    """At most CURVE_POINTS evenly spaced (coverage, risk) points, the first image and all of them included."""
    answered = np.unique(np.linspace(1, len(risks), CURVE_POINTS).round().astype(int))
    return tuple(zip((answered / len(risks)).tolist(), risks[answered - 1].tolist(), strict=True))
