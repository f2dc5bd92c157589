"""Annotators' votes and predictions in, VoteFigures out: how far a model agrees with people who do not all agree."""

import numpy as np
from jaxtyping import Bool, Int64
from scipy.special import rel_entr

from mien.data.votes import Votes
from mien.emotions import Probabilities
from mien.errors import DataError
from mien.evaluation.metrics import Estimate, check_probabilities, wilson
from mien.evaluation.report import VoteFigures

# How many tenths of an image's votes its most voted class has; FER+ asked ten annotators about each image.
BANDS = ("5 of 10 or fewer agree", "6 or 7 of 10 agree", "8 or 9 of 10 agree", "all 10 agree")
EDGES = (6, 8, 10)  # tenths from which the second, third and last band begin
LEAST = float(np.finfo(np.float32).eps)  # stands in for a probability that rounded to 0: the divergence stays finite

Rows = Bool[np.ndarray, " n"]
Bands = Int64[np.ndarray, " n"]


def measure_votes(votes: Votes, probabilities: Probabilities, *, classes: tuple[str, ...]) -> VoteFigures:
    """Judge predictions by annotators' votes, on the images that have votes for any of `classes`.

    Probabilities (n, classes), a row for each of `votes`. The divergence is of all these images; an accuracy leaves out
    those of which no single class has most votes, and a band with no image is absent. Intervals are Wilson's (1927).
    Raises DataError where no image has a majority, and as `measure` does.
    """
    majority = votes.majority(classes)
    check_probabilities(np.maximum(majority, 0), probabilities, classes)
    rated = votes.matched & votes.rated(classes)
    decided = rated & (majority >= 0)
    right = probabilities.argmax(axis=1) == majority
    accuracy = share(right, decided)
    if accuracy is None:
        raise DataError(f"none of {len(votes)} images has a class with most votes; expected the votes of these images")
    bands = band_of(votes, classes)
    in_bands = {words: share(right, decided & (bands == band)) for band, words in enumerate(BANDS)}
    return VoteFigures(
        images=int(rated.sum()),
        accuracy=accuracy,
        divergence=mean_divergence(votes.soft_targets(classes)[rated], probabilities[rated]),
        by_agreement={words: estimate for words, estimate in in_bands.items() if estimate},
    )


def share(right: Rows, among: Rows) -> Estimate | None:
    return wilson(int(right[among].sum()), int(among.sum()))


def mean_divergence(votes: Probabilities, probabilities: Probabilities) -> float:
    """Mean KL(votes ‖ prediction) in nats (Kullback & Leibler 1951)."""
    return float(rel_entr(votes, probabilities.clip(LEAST), dtype=np.float64).sum(axis=1).mean())


def band_of(votes: Votes, classes: tuple[str, ...]) -> Bands:
    """The index into BANDS of each image's agreement."""
    tenths = 10 * votes.agreement(classes) + 1e-3  # 0.7 is no float32: 7 of 10 must not fall below 7
    bands: Bands = np.digitize(tenths, EDGES)
    return bands
