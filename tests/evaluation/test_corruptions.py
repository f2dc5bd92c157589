import numpy as np
import pytest
from scipy.ndimage import center_of_mass, gaussian_filter

from mien.errors import RecipeError
from mien.evaluation.corruptions import CORRUPTIONS, STRENGTHS, corrupt

EVERY_ONE = pytest.mark.parametrize("name", CORRUPTIONS)


@pytest.fixture(scope="module")
def faces():
    """Sixteen pictures as smooth as faces are, over the whole range of greys."""
    fields = gaussian_filter(np.random.default_rng(0).normal(size=(16, 48, 48)), 2, axes=(1, 2))
    return np.interp(fields, (fields.min(), fields.max()), (0, 255)).astype(np.uint8)[..., None]


def plain(grey):
    return np.full((40, 48, 48, 1), grey, np.uint8)


def dot(row, column):
    images = plain(0)
    images[:, row - 1 : row + 2, column - 1 : column + 2] = 200
    return images


@EVERY_ONE
def test_every_strength_moves_the_images_further_and_leaves_the_originals_alone(faces, name):
    before, distances = faces.copy(), []
    for strength in range(1, 6):
        changed = corrupt(faces, name, strength=strength)
        assert (changed.dtype, changed.shape) == (np.uint8, faces.shape)
        distances.append(np.square(changed - faces.astype(float)).mean(axis=(1, 2, 3)))
    assert np.all(np.diff([each.mean() for each in distances]) > 0)
    assert np.all(distances[0] > 0)
    np.testing.assert_array_equal(faces, before)


@EVERY_ONE
def test_the_same_seed_gives_the_same_images_however_many_follow(faces, name):
    whole = corrupt(faces, name, strength=3, seed=7)
    np.testing.assert_array_equal(whole, corrupt(faces, name, strength=3, seed=7))
    np.testing.assert_array_equal(whole[:5], corrupt(faces[:5], name, strength=3, seed=7))
    assert len(corrupt(faces[:0], name, strength=3)) == 0


@pytest.mark.parametrize("name", ["noise", "rotation"])
def test_another_seed_gives_other_images_where_chance_has_a_part(faces, name):
    assert np.any(corrupt(faces, name, strength=3) != corrupt(faces, name, strength=3, seed=1))


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in ("noise", "low light")])
def test_a_plain_grey_picture_has_nothing_to_lose(name):
    np.testing.assert_array_equal(corrupt(plain(128), name, strength=5), plain(128))


def test_there_are_nine_corruptions_with_five_strengths_each():
    assert tuple(CORRUPTIONS) == tuple(STRENGTHS)
    assert [len(amounts) for amounts in STRENGTHS.values()] == [5] * 9


@pytest.mark.parametrize("strength", [1, 2, 3, 4, 5])
def test_blur_spreads_a_dot_by_its_standard_deviation(strength):
    spread = corrupt(dot(24, 24), "blur", strength=strength)[0, ..., 0].astype(float)
    variance = (spread.sum(axis=1) * np.square(np.arange(48) - 24)).sum() / spread.sum()
    # Three pixels in a row have a variance of 2/3.
    assert np.sqrt(variance - 2 / 3) == pytest.approx(STRENGTHS["blur"][strength - 1], abs=0.1)


@pytest.mark.parametrize("strength", [1, 2, 3, 4, 5])
def test_noise_has_the_standard_deviation_it_says(strength):
    noise = corrupt(plain(128), "noise", strength=strength).astype(float) - 128
    assert noise.mean() == pytest.approx(0, abs=1)
    assert noise.std() == pytest.approx(STRENGTHS["noise"][strength - 1], rel=0.03)


def test_rotation_turns_a_dot_about_the_middle_by_its_angle_to_either_side():
    turned = corrupt(dot(10, 24), "rotation", strength=5)[..., 0]
    rows, columns = np.array([center_of_mass(image) for image in turned]).T - 23.5
    angles = np.degrees(np.arctan2(columns, -rows) - np.arctan2(0.5, 13.5))
    np.testing.assert_allclose(np.abs(angles), 32, atol=1)
    assert 10 < np.sum(angles > 0) < 30


def test_low_light_halves_the_light_at_each_stop():
    dark = [corrupt(plain(255), "low light", strength=strength).max() / 255 for strength in range(1, 6)]
    np.testing.assert_allclose(np.power(dark, 2.2), [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32], atol=0.004)


def test_contrast_shrinks_about_the_mean(faces):
    faded = corrupt(faces, "contrast", strength=2)
    np.testing.assert_allclose(faded.mean(axis=(1, 2)), faces.mean(axis=(1, 2)), atol=0.5)
    np.testing.assert_allclose(faded.std(axis=(1, 2)), faces.std(axis=(1, 2)) / 2, atol=0.5)


def test_jpeg_leaves_steps_at_the_borders_of_its_blocks_of_eight(faces):
    def step(images):
        """The mean step across a border, as a multiple of the mean step elsewhere."""
        steps = np.abs(np.diff(images.astype(float), axis=1)).mean(axis=(0, 2, 3))
        border = np.arange(47) % 8 == 7
        return steps[border].mean() / steps[~border].mean()

    assert step(faces) == pytest.approx(1, abs=0.15)
    assert step(corrupt(faces, "jpeg", strength=5)) > 1.5


def test_low_resolution_removes_what_its_pixels_cannot_hold():
    """Stripes one pixel wide vanish at 24 pixels or fewer; halves of the picture do not."""
    stripes, halves = plain(0), plain(0)
    stripes[:, ::2], halves[:, 24:] = 200, 200
    np.testing.assert_allclose(corrupt(stripes, "low resolution", strength=5), 100, atol=4)
    assert np.ptp(corrupt(halves, "low resolution", strength=5)) == 200


@pytest.mark.parametrize(("name", "row", "width"), [("hidden eyes", 17, 36), ("hidden mouth", 39, 24)])
def test_a_cover_hides_its_box_and_nothing_else(faces, name, row, width):
    for strength, height in enumerate(STRENGTHS[name], start=1):
        covered = corrupt(faces, name, strength=strength)
        changed = (covered != faces).any(axis=0)[..., 0]
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        assert (len(rows), len(columns)) == (height, width)
        assert rows.mean() == pytest.approx(row - 0.25, abs=0.3)
        assert columns.mean() == 23.5
        greys = covered[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.testing.assert_array_equal(np.ptp(greys, axis=(1, 2)), 0)
        np.testing.assert_allclose(greys[:, 0, 0, 0], faces.mean(axis=(1, 2, 3)), atol=0.51)


@pytest.mark.parametrize("strength", [0, 6, -1])
def test_a_strength_that_does_not_exist_is_refused(faces, strength):
    with pytest.raises(RecipeError, match=rf"strength is {strength}; expected a whole number 1\.\.5"):
        corrupt(faces, "blur", strength=strength)


def test_a_corruption_that_does_not_exist_is_answered_with_those_that_do(faces):
    with pytest.raises(RecipeError, match="corruption is 'fog'; expected one of: blur, noise"):
        corrupt(faces, "fog", strength=1)
