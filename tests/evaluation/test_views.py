"""Several views of an image: what each shows, and that their mean is what is said."""

import numpy as np
import pytest

from mien.evaluation.views import VIEWS, look_at, moved


class LeftAndRight:
    """Says how bright the left half is, and how bright the right; counts what it is shown."""

    def __init__(self):
        self.seen = []

    def predict(self, images):
        self.seen.append(images)
        halves = images[:, :, :24].mean((1, 2, 3)), images[:, :, 24:].mean((1, 2, 3))
        brightness = np.stack(halves, axis=1).astype(np.float32) + 1
        return brightness / brightness.sum(axis=1, keepdims=True)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 48, 48, 1), np.uint8)


def test_a_single_view_is_the_classifier_itself():
    classifier = LeftAndRight()
    assert look_at(classifier, "single") is classifier


def test_a_mirror_image_counts_as_much_as_the_image(images):
    classifier = LeftAndRight()
    said = look_at(classifier, "mirror").predict(images)
    assert len(classifier.seen) == 2
    assert np.array_equal(classifier.seen[1], images[:, :, ::-1])
    assert np.allclose(said, 0.5)


def test_ten_views_are_the_image_and_four_moves_each_mirrored(images):
    classifier = LeftAndRight()
    said = look_at(classifier, "shifts").predict(images)
    assert len({view.tobytes() for view in classifier.seen}) == 10
    assert said.dtype == np.float32
    assert np.allclose(said.sum(axis=1), 1)
    assert set(VIEWS) == {"single", "mirror", "shifts"}


def test_a_move_repeats_the_edge(images):
    down_right = moved(images, 2, 2)
    assert np.array_equal(down_right[:, 2:, 2:], images[:, :-2, :-2])
    assert np.array_equal(down_right[:, 0, 2:], images[:, 0, :-2])
    assert np.array_equal(moved(images, -2, 2)[:, :-2, 2:], images[:, 2:, :-2])
    assert np.array_equal(moved(images, 0, 0), images)
