"""Labels and groups in, a share of the rows out: the same share of every class, and no group torn apart."""

import numpy as np

from mien.emotions import Indices, Labels, Names


def stratified_groups(labels: Labels, groups: Names, *, share: float, rng: np.random.Generator) -> Indices:
    """Rows holding `share` of each class, sorted; rows of one group are all in or all out.

    A group of several classes counts for the class of its first row; FER2013 has 52 such groups in its training half. A
    group that by itself is more than half of what is wanted of its class stays out: it would leave no room for others.
    """
    _, first, group_of_row, sizes = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    chosen = np.zeros(len(first), bool)
    for label in np.unique(labels):
        candidates = rng.permutation(np.flatnonzero(labels[first] == label))
        wanted = share * sizes[candidates].sum()
        candidates = candidates[sizes[candidates] <= max(wanted / 2, sizes[candidates].min(initial=len(labels)))]
        chosen[candidates[np.cumsum(sizes[candidates]) <= wanted + 0.5]] = True
    return np.flatnonzero(chosen[group_of_row])
