"""Several views of an image: what each shows, and that their mean is what is said."""

import numpy as np
import pytest

from mien.evaluation.views import VIEWS, look_at, warped


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


def test_ten_views_are_the_image_and_four_warps_each_mirrored(images):
    classifier = LeftAndRight()
    said = look_at(classifier, "warps").predict(images)
    assert len({view.tobytes() for view in classifier.seen}) == 10
    assert any(np.array_equal(view, images) for view in classifier.seen)
    assert said.dtype == np.float32
    assert np.allclose(said.sum(axis=1), 1)
    assert set(VIEWS) == {"single", "mirror", "warps"}


def test_a_warp_turns_and_resizes_about_the_centre(images):
    assert np.array_equal(warped(images, 1.0, 0.0), images)
    assert np.array_equal(warped(images, 1.0, 90.0), np.rot90(images, axes=(1, 2)))
    bright = np.zeros((1, 48, 48, 1), np.uint8)
    bright[:, 12:36, 12:36] = 200
    for size in (1.25, 0.75):
        side = np.sqrt((warped(bright, size, 0.0) / 200).sum())
        assert side == pytest.approx(24 * size, abs=0.1)
    assert (warped(np.full_like(bright, 90), 0.5, 7.0) == 90).all()
