"""What is hard, and in what order it is shown."""

import numpy as np
import pytest

from mien.training.curriculum import pace, pilot_difficulties


def test_an_image_is_as_hard_as_the_pilot_found_it():
    said = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.0, 1.0]], np.float32)
    assert pilot_difficulties(np.array([0, 0, 1, 0]), said) == pytest.approx(-np.log([0.9, 0.2, 0.5, 1e-7]), rel=1e-6)


def test_the_pace_rises_evenly_to_all_images():
    assert [pace(epoch, start=0.2, epochs=4) for epoch in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
