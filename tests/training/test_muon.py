"""Muon moves each kernel by a matrix with even singular values, and the rest as AdamW does."""

import keras
import numpy as np
import pytest

from mien.training.muon import Muon


@pytest.mark.parametrize("iterated_in", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (3, 3, 1, 24), (1, 1, 12, 4)])
def test_a_kernel_moves_as_far_in_every_direction(shape, iterated_in):
    kernel = keras.Variable(np.zeros(shape, "float32"))
    optimizer = Muon(iterated_in=iterated_in, learning_rate=0.01, rms_rate=None, weight_decay=None)
    optimizer.apply([noise(shape)], [kernel])
    moved = np.linalg.svd(np.reshape(kernel, (-1, shape[-1])), compute_uv=False)
    assert 0.006 < moved.min() <= moved.max() < 0.0125  # the iteration's own bounds, about 0.7 and 1.2


def test_all_else_moves_as_with_adamw():
    choices = {"learning_rate": 0.01, "weight_decay": 0.1}
    for shape in ((16,), (16, 7)):
        ours, theirs = (keras.Variable(noise(shape)) for _ in range(2))
        for optimizer, variable in (
            (Muon(adam_weight_decay=0.1, **choices), ours),
            (keras.optimizers.AdamW(**choices), theirs),
        ):
            for seed in (1, 2):
                optimizer.apply([noise(shape, seed=seed)], [variable])
        assert np.array(ours) == pytest.approx(np.array(theirs), abs=1e-5)


def noise(shape: tuple[int, ...], *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype("float32")
