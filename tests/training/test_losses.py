"""Losses are the formulas that they are named after."""

import numpy as np
import pytest

from mien.training.losses import build_loss

TARGETS = np.array([[0, 1, 0], [1, 0, 0]], np.float32)
SAID = np.array([[0.2, 0.7, 0.1], [0.3, 0.3, 0.4]], np.float32)
CHOSEN = np.array([0.7, 0.3])


def loss(name, *, gamma=2.0, alpha=0.25, smoothing=0.0):
    built = build_loss(name, focal_gamma=gamma, focal_alpha=alpha, label_smoothing=smoothing)
    return float(built(TARGETS, SAID))


def test_cross_entropy_and_its_smoothed_form():
    assert loss("cross_entropy") == pytest.approx(-np.log(CHOSEN).mean(), rel=1e-5)
    smooth = 0.9 * TARGETS + 0.1 / 3
    assert loss("cross_entropy", smoothing=0.1) == pytest.approx(-(smooth * np.log(SAID)).sum(1).mean(), rel=1e-5)


def test_focal_loss_is_that_of_its_paper():
    expected = -(0.25 * (1 - CHOSEN) ** 2 * np.log(CHOSEN)).mean()
    assert loss("focal") == pytest.approx(expected, rel=1e-5)
    assert loss("focal", alpha=0.5) == pytest.approx(2 * expected, rel=1e-5)
    assert loss("focal", gamma=0.0) == pytest.approx(-0.25 * np.log(CHOSEN).mean(), rel=1e-5)


def test_smoothing_reaches_focal_loss():
    smooth = 0.9 * TARGETS + 0.1 / 3
    expected = -(0.25 * smooth * (1 - SAID) ** 2 * np.log(SAID)).sum(axis=1).mean()
    assert loss("focal", smoothing=0.1) == pytest.approx(expected, rel=1e-5)
