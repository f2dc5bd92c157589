"""Difficulties in, an order for each epoch out: easy images first, all of them in the end (Bengio et al. 2009)."""

import numpy as np
from jaxtyping import Float

from mien.emotions import Indices, Labels, Probabilities
from mien.training.batches import Order

Difficulties = Float[np.ndarray, " n"]  # one an image; larger is harder


def pace(epoch: int, *, start: float, epochs: int) -> float:
    """The share of images, easiest first, that `epoch` (from 0) draws from: `start`, then evenly up to 1 after `epochs`."""
    return min(1.0, start + (1 - start) * epoch / epochs)


def easy_first(difficulties: Difficulties, *, start: float, epochs: int) -> Order:
    """An order that shows as many images an epoch as there are, repeating the easy ones while the hard ones wait."""
    easiest = np.argsort(difficulties, kind="stable")

    def order(chance: np.random.Generator, epoch: int) -> Indices:
        number = max(1, round(pace(epoch, start=start, epochs=epochs) * len(easiest)))
        rounds = -(-len(easiest) // number)
        repeated = np.concatenate([chance.permutation(easiest[:number]) for _ in range(rounds)])
        rows: Indices = repeated[: len(easiest)]
        return rows

    return order


def pilot_difficulties(labels: Labels, out_of_fold: Probabilities) -> Difficulties:
    """Each image's cross-entropy under a short pilot that did not learn from it, in nats."""
    chosen = out_of_fold[np.arange(len(labels)), labels].astype(np.float64)
    losses: Difficulties = -np.log(np.clip(chosen, 1e-7, 1))
    return losses
