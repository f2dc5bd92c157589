"""Validation labels and probabilities in, a Calibration out: how to mend what the model gives from then on."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, logsumexp, softmax

from mien.emotions import Labels, Probabilities
from mien.errors import DataError, RecipeError
from mien.evaluation.metrics import SUM_TOLERANCE, check_probabilities

OPERATING_POINTS = ("accuracy", "balanced")
TEMPERATURES = (0.05, 20.0)  # searched
DISTANCES = (-2.0, 2.0)  # searched along -log(priors): -1 undoes training on evened classes, +1 is Menon et al.'s
SOFTNESS = 0.5  # of the balanced point: 0 calls each class just as often as it occurs, 1 leaves an honest model alone
FLOOR = float(np.finfo(np.float64).eps)  # the least probability a logarithm is taken of, as in the nll of `metrics`

PerClass = tuple[float, ...]  # a number for each class
Logits = Float64[np.ndarray, "n classes"]
Offsets = Float64[np.ndarray, " classes"]


@dataclass(frozen=True)
class Calibration:
    """How to mend a model's probabilities: softmax(log(probabilities) / temperature + offsets).

    temperature: above 1 where the model is too sure of itself. accuracy, balanced: the offsets of the two operating
    points, in nats. priors: share of each class in the population that the accuracy point is meant for.
    """

    temperature: float
    accuracy: PerClass
    balanced: PerClass
    priors: PerClass

    def __post_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise DataError(f"temperature is {self.temperature}; expected a number above 0: calibrate again")
        if len(self.accuracy) != len(self.balanced) or not np.isfinite(self.accuracy + self.balanced).all():
            raise DataError(f"offsets are {self.accuracy} and {self.balanced}; expected one a class: calibrate again")
        check_priors(self.priors, classes=len(self.accuracy))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, which `from_dict` reads back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Calibration":
        """Read what `to_dict` gave. Raises DataError where that cannot be used."""
        try:
            accuracy, balanced, priors = (tuple(map(float, fields[name])) for name in (*OPERATING_POINTS, "priors"))
            return cls(float(fields["temperature"]), accuracy, balanced, priors)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"calibration is {fields}; expected what Calibration.to_dict() gives") from error

    def apply(self, probabilities: Probabilities, *, operating_point: str = "accuracy") -> Probabilities:
        """Mended probabilities: "accuracy" gets the most images right, "balanced" finds rare classes more often."""
        if operating_point not in OPERATING_POINTS:
            raise RecipeError(f"operating point is {operating_point!r}; expected one of {', '.join(OPERATING_POINTS)}")
        offsets = self.accuracy if operating_point == "accuracy" else self.balanced
        if probabilities.shape[1] != len(offsets):
            raise DataError(
                f"probabilities have {probabilities.shape[1]} columns; expected {len(offsets)}, one a class"
            )
        return from_logits(to_logits(probabilities) / self.temperature + offsets)

    def retarget(self, priors: PerClass) -> "Calibration":
        """The accuracy point moved to a population with these shares of the classes (Saerens, Latinne, Decaestecker 2002).

        p(class | image) is weighed by the new share over the old one and normalised: right where the classes look alike
        in both populations. The balanced point stays where it is: which classes are common is what it leaves out of
        account. Raises DataError where priors are not shares of the classes.
        """
        moved = self.accuracy + prior_shift(self.priors, priors)
        return replace(self, accuracy=tuple(moved.tolist()), priors=priors)


def fit_calibration(labels: Labels, probabilities: Probabilities, *, priors: PerClass) -> Calibration:
    """Fit both operating points to validation images: never to those trained on, never to the test set.

    priors: share of each class in the training images before any balancing, all above 0. Accuracy's offsets lie along
    -log(priors), the logit adjustment of Menon et al. 2021, as far as lowers NLL: nowhere, unless the network was
    trained with the classes evened out. Balanced goes on from there to where hard and rare classes are called more nearly
    as often as they occur; going along -log(priors) instead would not help a class that is common and hard to tell.
    Raises DataError where labels, probabilities or priors cannot be used.
    """
    check(labels, probabilities)
    check_priors(priors, classes=probabilities.shape[1], above_zero=True)
    direction = -np.log(priors)
    temperature, distance = fit_accuracy(labels, probabilities, direction)
    logits = to_logits(probabilities) / temperature
    accuracy = distance * direction
    balanced = accuracy + fit_balance(logits + accuracy, np.array(priors))
    return Calibration(temperature, tuple(accuracy.tolist()), tuple(balanced.tolist()), priors)


def fit_temperature(labels: Labels, probabilities: Probabilities) -> float:
    """The temperature that minimises NLL, within 0.05..20 (Guo et al. 2017); above 1 where the model is too sure."""
    check(labels, probabilities)
    logits = to_logits(probabilities)
    result = minimize_scalar(lambda log: nll(labels, logits / np.exp(log)), bounds=np.log(TEMPERATURES))
    return float(np.exp(result.x))


def uncertain(probabilities: Probabilities, *, minimum_confidence: float) -> Bool[np.ndarray, " n"]:
    """Which images are to be called uncertain: their likeliest class has less than `minimum_confidence`, 0..1."""
    check_confidence(minimum_confidence)
    unsure: Bool[np.ndarray, " n"] = probabilities.max(axis=1) < minimum_confidence
    return unsure


def fit_threshold(labels: Labels, probabilities: Probabilities, *, accuracy: float) -> float:
    """The least confidence from which on these validation images are right as often as `accuracy`, 0..1; 1 for never."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    right = (probabilities.argmax(axis=1) == labels)[order]
    last_of_tie = np.append(np.diff(confidence[order]) != 0, True)
    enough = np.flatnonzero((np.cumsum(right) >= accuracy * np.arange(1, len(right) + 1)) & last_of_tie)
    return float(confidence[order[enough[-1]]]) if len(enough) else 1.0


def check_confidence(minimum_confidence: float) -> None:
    if not 0 <= minimum_confidence <= 1:
        raise RecipeError(f"minimum confidence is {minimum_confidence}; expected 0..1")


def fit_accuracy(labels: Labels, probabilities: Probabilities, direction: Offsets) -> tuple[float, float]:
    """Temperature and distance along `direction` that minimise NLL together; the distance is 0 unless it pays.

    It pays where it gains log(n) / 2 nats over all n images, the price of a parameter (Schwarz 1978).
    """
    logits, temperature = to_logits(probabilities), fit_temperature(labels, probabilities)

    def loss(log_temperature: float, distance: float) -> float:
        return nll(labels, logits / np.exp(log_temperature) + distance * direction)

    start = (np.log(temperature), 0.0)
    both = minimize(lambda point: loss(*point), start, bounds=(np.log(TEMPERATURES), DISTANCES))
    if len(labels) * (loss(*start) - both.fun) <= np.log(len(labels)) / 2:
        return temperature, 0.0
    return float(np.exp(both.x[0])), float(both.x[1])


def fit_balance(logits: Logits, priors: Offsets) -> Offsets:
    """Offsets that call each class about as often as it occurs.

    Where probabilities are honest, their means are the priors; but the likeliest class is less often than that one that
    is hard to tell. These are the prices at which images, each after the class it fits best, share out the classes in
    these proportions: the dual of optimal transport, smoothed by an entropy (Cuturi 2013) of weight SOFTNESS.
    """

    def dual(offsets: Offsets) -> tuple[float, Offsets]:
        softened = (logits + offsets) / SOFTNESS
        value = SOFTNESS * logsumexp(softened, axis=1).mean() - priors @ offsets
        return float(value), softmax(softened, axis=1).mean(axis=0) - priors

    found: Offsets = minimize(dual, np.zeros(len(priors)), jac=True, method="BFGS").x
    return found


def nll(labels: Labels, logits: Logits) -> float:
    """Mean negative log-likelihood of the labels, nats."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean())


def to_logits(probabilities: Probabilities) -> Logits:
    logits: Logits = np.log(np.maximum(probabilities, FLOOR, dtype=np.float64))
    return logits


def from_logits(logits: Logits) -> Probabilities:
    probabilities: Probabilities = softmax(logits, axis=1).astype(np.float32)
    return probabilities


def prior_shift(from_priors: PerClass, to_priors: PerClass) -> Offsets:
    """What to add to logits when the shares of the classes change."""
    check_priors(from_priors, classes=len(from_priors), above_zero=True)
    check_priors(to_priors, classes=len(from_priors))
    shift: Offsets = np.log(np.maximum(to_priors, FLOOR)) - np.log(from_priors)
    return shift


def check(labels: Labels, probabilities: Probabilities) -> None:
    """Raise a DataError unless one can be judged by the other; classes have no names here."""
    check_probabilities(labels, probabilities, tuple(map(str, range(probabilities.shape[1]))))


def check_priors(priors: PerClass, *, classes: int, above_zero: bool = False) -> None:
    """Raise a DataError unless `priors` are shares of that many classes, and all above 0 where they must be."""
    if len(priors) != classes:
        raise DataError(f"{len(priors)} priors came; expected {classes}, one a class: {priors}")
    if not all(prior > 0 or (prior == 0 and not above_zero) for prior in priors):
        raise DataError(f"priors are {priors}; expected each {'above 0' if above_zero else 'to be 0 or more'}")
    if not abs(sum(priors) - 1) <= SUM_TOLERANCE:
        raise DataError(f"priors sum to {sum(priors):g}; expected 1: divide each class's count by their sum")
