"""Boxes and cuts against pictures whose faces are known, and geometry against arithmetic done here."""

import hashlib
import types
import warnings
from math import cos, log, radians, sin

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mien.errors import DataError, MissingExtraError, RecipeError
from mien.inference import faces
from mien.inference.faces import (
    EYE_DISTANCE,
    EYE_HEIGHT,
    MOUTH_DISTANCE,
    Box,
    Candidate,
    HaarDetector,
    WholePicture,
    YuNet,
    crop,
    find_detector,
    frame_landmarks,
    opencv_faults,
    shared,
    suppress,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    onnx = pytest.importorskip("onnx")

FACE = (224, 113)  # the middle of the astronaut's face, between eyes and mouth
SIDE = 97  # of her frame, pixels


def middle(box: Box) -> tuple[float, float]:
    return box.x + box.width / 2, box.y + box.height / 2


def assert_on(box: Box, at: tuple[float, float], side: float) -> None:
    assert np.hypot(*np.subtract(middle(box), at)) < 0.15 * side
    assert 0.8 < box.width / side < 1.25


@pytest.fixture(scope="module")
def portrait(astronaut) -> np.ndarray:
    return np.ascontiguousarray(astronaut[:256, 64:384])


@pytest.mark.parametrize("detector", [HaarDetector(), HaarDetector().for_video()])
def test_finds_the_one_face_of_a_photo(astronaut, detector):
    (box,) = detector.find(astronaut)
    assert_on(box, FACE, SIDE)
    assert 0.5 <= box.score <= 1


@pytest.mark.parametrize("tilt", [-25, 25])
def test_finds_a_leaning_face_and_sets_it_upright(astronaut, tilt):
    there = cv2.getRotationMatrix2D(FACE, -tilt, 1.0)  # OpenCV turns counter-clockwise
    leaning = cv2.warpAffine(astronaut, there, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    (box,) = HaarDetector().find(leaning)
    assert_on(box, FACE, SIDE)
    assert box.tilt == tilt
    upright = crop(astronaut, Box(box.x, box.y, box.width, box.height)).astype(float)
    assert np.corrcoef(crop(leaning, box).ravel(), upright.ravel())[0, 1] > 0.95
    assert not HaarDetector(tilted=False).find(leaning)


def test_finds_several_faces_from_left_to_right(portrait):
    canvas = np.full((300, 700, 3), 128, np.uint8)
    canvas[20:276, 360:680] = portrait
    small = cv2.resize(portrait, (200, 160), interpolation=cv2.INTER_AREA)
    canvas[60:220, 40:240] = small[:, ::-1]
    left, right = HaarDetector().find(canvas)
    assert_on(left, (240 - 160 * 0.625, 60 + 113 * 0.625), SIDE * 0.625)
    assert_on(right, (520, 133), SIDE)


def test_small_faces_are_found_on_request(portrait):
    canvas = np.full((720, 960, 3), 128, np.uint8)
    canvas[300:370, 400:488] = cv2.resize(portrait, (88, 70), interpolation=cv2.INTER_AREA)
    (box,) = HaarDetector(smallest=24).find(canvas)
    assert_on(box, (444, 331), SIDE * 88 / 320)
    assert not HaarDetector().find(canvas)


def test_large_photos_are_scaled_first_and_boxes_scaled_back(astronaut):
    large = cv2.resize(astronaut, (3072, 3072), interpolation=cv2.INTER_LINEAR)
    (box,) = HaarDetector(profiles=False, tilted=False).find(large)
    assert_on(box, (FACE[0] * 6, FACE[1] * 6), SIDE * 6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (23, 24), (48, 48), (300, 500)])
def test_no_face_is_an_empty_tuple(shape):
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert HaarDetector().find(noise) == ()
    assert HaarDetector().find(np.zeros((*shape, 3), np.uint8)) == ()


@pytest.mark.parametrize("name", ["coffee", "chelsea", "rocket", "brick"])
def test_pictures_without_faces_give_none(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = getattr(pytest.importorskip("skimage.data"), name)()
    image = image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)
    assert HaarDetector().find(np.ascontiguousarray(image)) == ()


def test_the_profile_cascade_sees_both_sides_alike(monkeypatch):
    """A face looking left at x = 40 of 200 is one looking right at x = 160 in the mirror."""
    face = Candidate(x=40.0, y=50.0, side=60.0, weight=9.0)
    seen = []

    def detect(name, grey, **options):
        seen.append(grey.copy())
        return (face,)

    monkeypatch.setattr(faces, "detect", detect)
    grey = np.random.default_rng(0).integers(0, 256, (120, 200), np.uint8)
    one, other = faces.find_profiles(grey)
    assert np.array_equal(seen[1], seen[0][:, ::-1])
    assert (one.width, one.y, one.score) == (other.width, other.y, other.score)
    assert middle(one)[0] == pytest.approx(200 - middle(other)[0], abs=1)
    assert middle(one)[0] < 40  # the front of a face that looks left is left of the head's middle


def test_cascades_must_agree(monkeypatch):
    """What one frontal cascade finds by itself is no face, however sure it is."""

    def detect(name, grey, **options):
        return (Candidate(60.0, 60.0, 50.0, 50.0),) if name == "frontalface_default" else ()

    monkeypatch.setattr(faces, "detect", detect)
    assert HaarDetector().find(np.zeros((120, 120, 3), np.uint8)) == ()


@pytest.mark.fer2013
def test_cuts_fer2013_as_it_is_framed(fer2013):
    """Training images in larger canvases: the boxes found fit the images, and fit no margin better."""
    paths = sorted((fer2013 / "train" / "happy").glob("*.png"))[:400:8]
    agreements = {0.85: [], 1.0: [], 1.15: []}
    for path in paths:
        image = cv2.resize(np.asarray(Image.open(path)), (144, 144), interpolation=cv2.INTER_CUBIC)
        canvas = cv2.copyMakeBorder(image, 72, 72, 72, 72, cv2.BORDER_CONSTANT, value=float(image.mean()))
        for box in HaarDetector(tilted=False, profiles=False).find(np.repeat(canvas[..., None], 3, axis=2))[:1]:
            for margin, found in agreements.items():
                side = box.width * margin
                left, top = middle(box)[0] - side / 2, middle(box)[1] - side / 2
                wide, high = (min(at + side, 216) - max(at, 72) for at in (left, top))
                found.append(wide * high / (side * side + 144 * 144 - wide * high))
    assert len(agreements[1.0]) > 0.6 * len(paths)
    assert np.mean(agreements[1.0]) > 0.78
    assert np.mean(agreements[1.0]) > max(np.mean(agreements[0.85]), np.mean(agreements[1.15])) + 0.03


def test_a_whole_picture_is_passed_through_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 1), np.uint8)
    picture = np.repeat(image, 3, axis=2)
    (box,) = WholePicture().find(picture)
    assert (box.x, box.y, box.width, box.height, box.score, box.tilt) == (0, 0, 48, 48, 1.0, 0.0)
    assert np.array_equal(crop(picture, box), image)
    assert WholePicture().find(np.zeros((60, 100, 3), np.uint8)) == (Box(20, 0, 60, 60),)


def test_crop_averages_over_areas():
    grey = np.random.default_rng(0).integers(0, 256, (192, 192), np.uint8)
    picture = np.repeat(grey[..., np.newaxis], 3, axis=2)
    means = grey.reshape(48, 4, 48, 4).mean(axis=(1, 3))
    assert np.abs(crop(picture, Box(0, 0, 192, 192))[..., 0] - means).max() <= 0.51


def test_crop_weighs_colours_as_the_eye_does():
    picture = np.zeros((48, 48, 3), np.uint8)
    picture[..., 0], picture[..., 1] = 200, 100
    assert crop(picture, Box(0, 0, 48, 48)).max() == pytest.approx(0.299 * 200 + 0.587 * 100, abs=0.6)


def test_crop_carries_the_edge_on_where_a_box_leaves_the_picture():
    picture = np.full((100, 100, 3), 50, np.uint8)
    picture[:, 99] = 250
    cut = crop(picture, Box(76, 10, 48, 48))[..., 0]
    assert (cut[:, :23] == 50).all()
    assert (cut[:, 23:] == 250).all()
    assert (crop(picture, Box(500, -900, 48, 48)) == 250).all()


def test_crop_widens_what_is_no_square():
    picture = np.repeat(np.arange(200, dtype=np.uint8)[:, np.newaxis, np.newaxis], 200, axis=1).repeat(3, axis=2)
    assert np.array_equal(crop(picture, Box(90, 50, 20, 96)), crop(picture, Box(52, 50, 96, 96)))


boxes = st.builds(
    Box,
    x=st.integers(-300, 300),
    y=st.integers(-300, 300),
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    score=st.floats(0, 1),
    tilt=st.sampled_from([0.0, -25.0, 25.0, 180.0]),
)


@given(box=boxes, shape=st.tuples(st.integers(1, 90), st.integers(1, 90)))
def test_crop_gives_48_by_48_of_any_box_in_any_picture(box, shape):
    picture = np.full((*shape, 3), 77, np.uint8)
    cut = crop(picture, box)
    assert cut.shape == (48, 48, 1)
    assert (cut == 77).all()


@given(st.lists(boxes, max_size=12))
def test_boxes_that_remain_do_not_share_their_area(found):
    kept = suppress(found)
    assert set(kept) <= set(found)
    assert not found or max(box.score for box in found) in [box.score for box in kept]
    for row, one in enumerate(kept):
        for other in kept[row + 1 :]:
            assert shared(one, other) <= 0.4 * min(one.width * one.height, other.width * other.height)
    assert list(kept) == sorted(kept, key=lambda box: (box.x, box.y))


def test_of_nested_boxes_the_surer_one_remains():
    face, around = Box(30, 30, 40, 40, 0.9), Box(0, 0, 100, 100, 0.8)
    assert suppress([around, face]) == (face,)


@pytest.mark.parametrize("tilt", [0, 20, -35])
def test_landmarks_where_fer2013_has_them_give_its_frame(tilt):
    """Eyes and mouth put where FER2013's are in a frame of 200 pixels around (300, 300), turned clockwise by `tilt`."""
    half, down = EYE_DISTANCE / 2, EYE_HEIGHT - 0.5
    mouth = down + MOUTH_DISTANCE * EYE_DISTANCE
    upright = np.array([(-half, down), (half, down), (0, 0.1), (-half / 2, mouth), (half / 2, mouth)]) * 200
    angle = radians(tilt)
    turned = upright @ np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]]) + 300
    box = frame_landmarks([200.0, 200.0, 200.0, 200.0, *turned.ravel().tolist(), 0.8])
    assert middle(box) == pytest.approx((300, 300), abs=1.5)
    assert box.width == box.height == pytest.approx(200, abs=1)
    assert box.tilt == pytest.approx(tilt, abs=0.5)
    assert box.score == 0.8


def write_yunet(path):
    """A network with YuNet's ports for 320×320 pixels, which always sees one face in the cell at (128, 160)."""
    helper, array = onnx.helper, onnx.numpy_helper.from_array
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "shape"], ["row"]),
        helper.make_node("ReduceMean", ["row"], ["mean"], axes=[2], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    constants = [array(np.array([1, 1, 3]), "shape"), array(np.zeros((1, 1, 1), np.float32), "zero")]
    outputs = []
    for stride in (8, 16, 32):
        values = {
            name: np.zeros((1, (320 // stride) ** 2, size))
            for name, size in zip(("cls", "obj", "bbox", "kps"), (1, 1, 4, 10), strict=True)
        }
        if stride == 32:
            cell = 5 * 10 + 4
            values["cls"][0, cell] = values["obj"][0, cell] = 0.9
            values["bbox"][0, cell] = 0, 0, log(3), log(4)
            values["kps"][0, cell] = -0.6, -0.6, 0.6, -0.6, 0, 0, -0.5, 0.8, 0.5, 0.8
        for name, value in values.items():
            constants.append(array(value.astype(np.float32), f"constant_{name}_{stride}"))
            nodes.append(helper.make_node("Add", [f"constant_{name}_{stride}", "nothing"], [f"{name}_{stride}"]))
            outputs.append(helper.make_tensor_value_info(f"{name}_{stride}", onnx.TensorProto.FLOAT, value.shape))
    port = helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, (1, 3, 320, 320))
    graph = helper.make_graph(nodes, "yunet", [port], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    path.write_bytes(model.SerializeToString())
    return path


def test_yunet_is_used_where_its_file_is_given(tmp_path, monkeypatch):
    path = write_yunet(tmp_path / "yunet.onnx")
    detector = find_detector(f"yunet={path}")
    assert isinstance(detector, YuNet)
    assert detector.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    (box,) = detector.find(np.zeros((320, 320, 3), np.uint8))
    # Eyes 1.2 cells of 32 pixels apart and 1.4 above the mouth: the eyes' distance decides; no tilt.
    side = 1.2 * 32 / EYE_DISTANCE
    assert box.width == pytest.approx(side, abs=1.5)  # whole pixels, both edges rounded outwards
    assert middle(box) == pytest.approx((128, 160 - 0.6 * 32 + (0.5 - EYE_HEIGHT) * side), abs=1.5)
    monkeypatch.setenv("MIEN_YUNET", str(path))
    assert find_detector() == find_detector("yunet") == detector


@pytest.mark.parametrize("name", ["yolo", "haar=x", "none=1", "yunet", "yunet=", "=", "Haar"])
def test_a_detector_that_is_none_is_refused(name, monkeypatch):
    monkeypatch.delenv("MIEN_YUNET", raising=False)
    with pytest.raises(RecipeError, match="expected"):
        find_detector(name)


def test_a_yunet_file_that_is_none_is_refused(tmp_path, model_path):
    (tmp_path / "text.onnx").write_text("not a network")
    for path in (tmp_path / "absent.onnx", tmp_path / "text.onnx", tmp_path, model_path):
        with pytest.raises(DataError, match="expected face_detection_yunet"):
            find_detector(f"yunet={path}")


def test_options_out_of_range_are_refused():
    with pytest.raises(RecipeError, match="smallest face is 10 pixels; expected 24 or more"):
        HaarDetector(smallest=10)
    with pytest.raises(RecipeError, match="smallest face is -1 pixels; expected 24 or more"):
        find_detector("yunet=any.onnx", smallest=-1)
    with pytest.raises(RecipeError, match="smallest face is 40 pixels, but no faces are looked for"):
        find_detector("none", smallest=40)
    with pytest.raises(DataError, match="0×5"):
        Box(0, 0, 0, 5)


def test_opencv_5_is_named_with_its_cure(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", types.SimpleNamespace(__version__="5.0.0"))
    monkeypatch.setattr(faces, "installed_wheels", lambda: ("opencv-python-headless",))
    with pytest.raises(MissingExtraError, match=r"OpenCV 5\.0\.0 .*pip install \"opencv-python-headless<5\""):
        HaarDetector()


def test_two_cv2_wheels_are_named_with_their_cure(monkeypatch):
    broken = types.SimpleNamespace(
        __version__="5.0.0", CascadeClassifier=object, data=types.SimpleNamespace(haarcascades="/x")
    )
    monkeypatch.setitem(__import__("sys").modules, "cv2", broken)
    monkeypatch.setattr(faces, "installed_wheels", lambda: ("opencv-python-headless", "opencv-contrib-python"))
    (fault,) = opencv_faults()
    assert "opencv-python-headless and opencv-contrib-python overwrite" in fault
    assert "pip uninstall -y opencv-python-headless opencv-contrib-python" in fault


def test_a_missing_opencv_is_named_with_its_cure(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    (fault,) = opencv_faults()
    assert 'pip install "opencv-python-headless<5"' in fault


def test_this_opencv_is_sound():
    assert opencv_faults() == ()
    assert faces.installed_wheels() == ("opencv-python-headless",)
