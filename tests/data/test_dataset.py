import csv
import shutil

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from PIL import Image

from mien.data.dataset import (
    CSV_EMOTIONS,
    PRIVATE,
    PUBLIC,
    TEST,
    TRAINING,
    Dataset,
    cache_folder,
    image_hashes,
    load_dataset,
)
from mien.emotions import EMOTIONS
from mien.errors import DataError

OTHER_SPELLING = dict(zip(EMOTIONS, ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise"), strict=True))


def write_tree(dataset: Dataset, root, spelling=None):
    for name, image in zip(dataset.names, dataset.images, strict=True):
        part, emotion, file = name.split("/")
        path = root / part / (spelling or {}).get(emotion, emotion) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    return root


def write_csv(dataset: Dataset, path, usage=None):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["emotion", "pixels", "Usage"])
        for row in np.random.default_rng(0).permutation(len(dataset)):
            part = dataset.usage[row] if usage is None else usage[row]
            emotion = CSV_EMOTIONS.index(dataset.classes[dataset.labels[row]])
            writer.writerow([emotion, " ".join(map(str, dataset.images[row].ravel())), part])
    return path


def same(one: Dataset, two: Dataset) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in ("images", "labels", "names", "usage")
    )


@pytest.fixture
def tree(drawn, tmp_path):
    return write_tree(drawn, tmp_path / "faces")


def test_folder_gives_back_what_was_written(drawn, tree):
    assert same(load_dataset(tree), drawn)


def test_other_spelling_gives_the_same_images_and_labels(drawn, tmp_path):
    loaded = load_dataset(write_tree(drawn, tmp_path, OTHER_SPELLING))
    assert loaded.sha256 == drawn.sha256
    assert loaded.names[0] == drawn.names[0]
    assert "train/disgust/im0.png" in loaded.names


def test_usage_in_file_names_is_read(drawn, tree):
    first = tree / "test" / "happy" / "im0.png"
    first.rename(first.with_name("PrivateTest_1.png"))
    loaded = load_dataset(tree)
    assert loaded.usage[list(loaded.names).index("test/happy/PrivateTest_1.png")] == PRIVATE


def test_csv_gives_every_image_its_label_and_a_name_in_order(drawn, tmp_path):
    usage = np.where(drawn.usage == TRAINING, TRAINING, PUBLIC)
    loaded = load_dataset(write_csv(drawn, tmp_path / "fer2013.csv", usage))
    assert sorted(loaded.names) == sorted(drawn.names)
    assert np.array_equal(loaded.counts(), drawn.counts())
    known = dict(zip(image_hashes(drawn.images), drawn.labels, strict=True))
    assert [known[image] for image in image_hashes(loaded.images)] == loaded.labels.tolist()
    assert loaded.names[0] == "train/angry/im0.png"


def test_a_skipped_row_does_not_rename_those_after_it(drawn, tmp_path):
    usage = np.where(drawn.usage == TRAINING, TRAINING, PUBLIC)
    path = write_csv(drawn, tmp_path / "fer2013.csv", usage)
    whole = load_dataset(path)
    lines = path.read_text().splitlines()
    emotion, pixels, part = lines[1].split(",")
    lines[1] = f"{emotion},{pixels[:20]},{part}"
    path.write_text("\n".join(lines))
    rest = load_dataset(path, skip_bad=True)
    image_of = dict(zip(whole.names.tolist(), image_hashes(whole.images), strict=True))
    assert len(rest) == len(whole) - 1
    assert [image_of[name] for name in rest.names.tolist()] == image_hashes(rest.images).tolist()


def test_folder_holding_the_csv_is_found(drawn, tmp_path):
    usage = np.where(drawn.usage == TRAINING, TRAINING, PRIVATE)
    write_csv(drawn, tmp_path / "fer2013.csv", usage)
    assert len(load_dataset(tmp_path)) == len(drawn)


def test_cache_is_used_and_a_changed_file_renews_it(drawn, tree, monkeypatch):
    load_dataset(tree)
    monkeypatch.setattr("mien.data.dataset.require_face", lambda picture: pytest.fail("decoded again"))
    assert same(load_dataset(tree), drawn)
    monkeypatch.undo()
    white = tree / "train" / "happy" / "im0.png"
    Image.new("L", (48, 48), 255).save(white)
    assert load_dataset(tree).images[list(drawn.names).index("train/happy/im0.png")].min() == 255


def spoil_not_an_image(tree):
    (tree / "train/sad/im1.png").write_text("no picture")


def spoil_truncated(tree):
    path = tree / "train/sad/im1.png"
    path.write_bytes(path.read_bytes()[:300])


def spoil_empty_file(tree):
    (tree / "train/sad/im1.png").write_bytes(b"")


def spoil_size(tree):
    Image.new("L", (64, 48)).save(tree / "train/sad/im1.png")


def spoil_colour(tree):
    Image.new("RGB", (48, 48)).save(tree / "train/sad/im1.png")


def spoil_folder_among_files(tree):
    (tree / "train/sad/im1.png").unlink()
    (tree / "train/sad/im1.png").mkdir()


SPOILED_FILES = {
    spoil_not_an_image: "not an image",
    spoil_truncated: "cannot be decoded",
    spoil_empty_file: "not an image",
    spoil_size: "64×48",
    spoil_colour: "colour",
    spoil_folder_among_files: "not an image",
}


@pytest.mark.parametrize(("spoil", "fault"), SPOILED_FILES.items())
def test_bad_file_is_named_or_skipped(drawn, tree, tmp_path, monkeypatch, spoil, fault):
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    spoil(tree)
    with pytest.raises(DataError, match=rf"train/sad/im1\.png.*{fault}.*expected") as caught:
        load_dataset(tree)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("cache/**/*.npz"))
    loaded = load_dataset(tree, skip_bad=True)
    assert len(loaded) == len(drawn) - 1
    assert len(loaded.skipped) == 1
    assert load_dataset(tree, skip_bad=True).skipped == loaded.skipped


def test_missing_class_folder_is_named_or_skipped(drawn, tree):
    shutil.rmtree(tree / "train" / "disgusted")
    with pytest.raises(DataError, match="train/disgusted is missing"):
        load_dataset(tree)
    loaded = load_dataset(tree, skip_bad=True)
    assert loaded.training.counts()[1] == 0
    assert len(loaded.skipped) == 1


def test_empty_class_is_named(tree):
    for path in (tree / "test" / "fearful").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="test/fearful has no images"):
        load_dataset(tree)


def test_an_empty_class_folder_beside_the_seven_is_named(tree):
    (tree / "train" / "bored").mkdir()
    with pytest.raises(DataError, match="train/bored has no images"):
        load_dataset(tree)


def test_two_folders_of_one_class_are_named(tree):
    shutil.copytree(tree / "train" / "fearful", tree / "train" / "fear")
    with pytest.raises(DataError, match="has train/fear.* and a folder of the same class; expected one a class"):
        load_dataset(tree)


def test_one_large_picture_does_not_make_fer2013_one_s_own(tree):
    first = tree / "train" / "angry" / "im0.png"
    Image.new("L", (50, 50)).save(first)
    with pytest.raises(DataError, match=r"angry/im0\.png.*50"):
        load_dataset(tree)


def test_a_link_to_nothing_is_a_bad_file(tree):
    (tree / "train" / "angry" / "im999.png").symlink_to("gone.png")
    with pytest.raises(DataError, match=r"im999\.png"):
        load_dataset(tree)
    assert len(load_dataset(tree, skip_bad=True).skipped) == 1


def test_a_quote_that_is_not_closed_is_named(drawn, tmp_path):
    path = write_csv(drawn, tmp_path / "fer2013.csv")
    with path.open("a") as file:
        file.write('0,"1 2 3\n' + ("4,1,Training\n" + "5 " * 2000 + "\n") * 40)
    with pytest.raises(DataError, match=r"fer2013\.csv, line \d+: .*expected every quote to be closed"):
        load_dataset(path, skip_bad=True)


def test_where_no_cache_can_be_written_none_is(drawn, tree, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "file" / "cache"))
    assert same(load_dataset(tree), drawn)


def test_hidden_files_are_no_images(drawn, tree):
    (tree / "train" / "sad" / ".DS_Store").write_text("")
    assert len(load_dataset(tree)) == len(drawn)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ([3, " ".join(["7"] * 2303), "Training"], "2303 pixels"),
        ([7, " ".join(["7"] * 2304), "Training"], "emotion is '7'; expected 0 to 6"),
        (["", " ".join(["7"] * 2304), "Training"], "emotion is ''"),
        ([3, " ".join(["300"] * 2304), "Training"], "300"),
        ([3, " ".join(["x"] * 2304), "Training"], "whole numbers"),
        ([3, " ".join(["7"] * 2304), "Testing"], "Usage is 'Testing'"),
        ([3], "Usage is None"),
    ],
)
def test_bad_row_is_named_or_skipped(drawn, tmp_path, row, fault):
    usage = np.where(drawn.usage == TRAINING, TRAINING, PUBLIC)
    path = write_csv(drawn, tmp_path / "fer2013.csv", usage)
    with path.open("a", newline="") as file:
        csv.writer(file).writerow(row)
    with pytest.raises(DataError, match=f"line {len(drawn) + 2}: .*{fault}"):
        load_dataset(path)
    loaded = load_dataset(path, skip_bad=True)
    assert len(loaded) == len(drawn)
    assert len(loaded.skipped) == 1


def test_csv_without_the_columns_is_refused(tmp_path):
    (tmp_path / "fer2013.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="emotion, pixels and Usage"):
        load_dataset(tmp_path / "fer2013.csv")


def test_a_picture_is_no_csv(tmp_path):
    Image.new("L", (48, 48), 200).save(tmp_path / "face.png")
    with pytest.raises(DataError, match=r"face\.png is no text; expected fer2013\.csv, or a folder"):
        load_dataset(tmp_path / "face.png")


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_source_without_faces_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected"):
        load_dataset(tmp_path / name)


def test_lengths_must_agree(drawn):
    with pytest.raises((DataError, TypeCheckError)):
        Dataset(drawn.images, drawn.labels[:-1], drawn.names, drawn.usage)


def test_hash_changes_with_one_pixel_and_one_label(drawn):
    images = drawn.images.copy()
    images[5, 3, 3] ^= 1
    labels = drawn.labels.copy()
    labels[5] = (labels[5] + 1) % 7
    others = [
        Dataset(images, drawn.labels, drawn.names, drawn.usage),
        Dataset(drawn.images, labels, drawn.names, drawn.usage),
    ]
    assert len({drawn.sha256, *(other.sha256 for other in others)}) == 3


@pytest.mark.fer2013
def test_the_real_data(fer2013):
    dataset = load_dataset(fer2013)
    assert dataset.training.counts().tolist() == [3995, 436, 4097, 7215, 4965, 4830, 3171]
    assert dataset.test.counts().tolist() == [958, 111, 1024, 1774, 1233, 1247, 831]
    assert np.sum(dataset.usage == PUBLIC) == np.sum(dataset.usage == PRIVATE) == 3589
    assert not np.any(dataset.usage == TEST)


def write_own(root, classes, *, each=6, size=(60, 80), mode="RGB", parts=("",)):
    """A folder of one's own: pictures of noise in folders a class, within parts or not."""
    rng = np.random.default_rng(0)
    for part in parts:
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for number in range(each):
                pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
                Image.fromarray(pixels).convert(mode).save(root / part / name / f"{number}.png")
    return root


def test_a_folder_of_ones_own_is_made_48_by_48_and_grey_and_says_so(tmp_path):
    loaded = load_dataset(write_own(tmp_path / "own", ("wink", "Bored"), parts=("train", "test")))
    assert loaded.classes == ("Bored", "wink")
    assert loaded.images.shape == (24, 48, 48, 1)
    assert loaded.notes == ("24 of 24 pictures were made 48×48 and grey",)
    assert loaded.names[0] == "train/Bored/0.png"
    assert loaded.training.counts().tolist() == loaded.test.counts().tolist() == [6, 6]
    again = load_dataset(tmp_path / "own")
    assert same(again, loaded)
    assert (again.classes, again.notes, again.sha256) == (loaded.classes, loaded.notes, loaded.sha256)


def test_pictures_of_48_by_48_in_grey_are_taken_as_they_are(tmp_path):
    root = write_own(tmp_path / "own", ("a", "b"), size=(48, 48), mode="L", parts=("train", "test"))
    loaded = load_dataset(root)
    assert loaded.notes == ()
    assert np.array_equal(loaded.images[0, ..., 0], np.asarray(Image.open(root / "train/a/0.png")))


def test_a_picture_is_scaled_as_a_crop_is(tmp_path):
    from mien.data.dataset import opened, to_face
    from mien.inference.faces import Box, crop

    gradient = np.add.outer(np.arange(96), 1.5 * np.arange(96)).astype(np.uint8)
    Image.fromarray(gradient).save(tmp_path / "face.png")
    with opened(tmp_path / "face.png") as picture:
        ours = to_face(picture).astype(int)
    theirs = crop(np.repeat(gradient[..., None], 3, axis=2), Box(0, 0, 96, 96))
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("form", ["wide", "tall", "see-through"])
def test_a_picture_is_learned_from_as_it_is_read(tmp_path, form):
    from mien.data.dataset import opened, to_face
    from mien.inference.faces import WholePicture, crop
    from mien.inference.media import read_picture

    colours = np.random.default_rng(0).integers(0, 256, (96, 145, 4), np.uint8)
    colours[..., 3] = np.where(np.arange(145) < 70, 0, 255) if form == "see-through" else 255
    values = colours.swapaxes(0, 1) if form == "tall" else colours
    Image.fromarray(values).save(tmp_path / "face.png")
    with opened(tmp_path / "face.png") as picture:
        learned = to_face(picture).astype(int)
    whole = read_picture(tmp_path / "face.png")
    read = crop(whole, WholePicture().find(whole)[0])
    assert np.abs(learned - read).max() <= 1


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 and no more"])
def test_a_damaged_cache_is_written_again(tree, damage, monkeypatch, tmp_path):
    monkeypatch.setenv("MIEN_CACHE", str(tmp_path / "cache"))
    loaded = load_dataset(tree)
    (cached,) = cache_folder().glob("*.npz")
    cached.write_bytes(damage)
    assert same(load_dataset(tree), loaded)
    assert cached.stat().st_size > len(damage)


def test_a_bad_picture_names_the_option_that_leaves_it_out(tree):
    first = next((tree / "train").rglob("*.png"))
    first.write_bytes(b"no image")
    with pytest.raises(
        DataError, match="is not an image; expected a PNG or JPEG; leave out what is bad with --skip-bad"
    ):
        load_dataset(tree)


def test_without_parts_a_test_part_is_carved_and_copies_stay_together(tmp_path):
    root = write_own(tmp_path / "own", ("a", "b", "c"), each=10)
    for number in range(10, 16):
        shutil.copy(root / "a" / "0.png", root / "a" / f"{number}.png")
    loaded = load_dataset(root)
    assert loaded.test.counts()[1:].tolist() == [2, 2]
    assert set(image_hashes(loaded.test.images)).isdisjoint(image_hashes(loaded.training.images))
    assert loaded.notes[1].startswith(f"there is no test/: {len(loaded.test)} of 36 pictures are set aside to test on")
    assert loaded.is_carved
    assert set(loaded.usage) == {TRAINING, TEST}
    assert np.all(np.diff(loaded.usage == TEST) >= 0)
    assert same(load_dataset(root), loaded)
    by_name = dict(zip(loaded.names.tolist(), loaded.labels.tolist(), strict=True))
    assert by_name["b/3.png"] == 1


def test_a_third_part_is_not_read_and_that_is_said(tmp_path):
    root = write_own(tmp_path / "own", ("a", "b"), each=5, parts=("train", "test", "val"))
    loaded = load_dataset(root)
    assert len(loaded) == 20
    assert loaded.notes[-1] == "val/ is not read: train/ and test/ are, and validation is carved from train/"
    assert not loaded.is_carved


def test_seven_classes_of_other_size_are_ones_own_and_an_eighth_class_too(tmp_path):
    large = load_dataset(write_own(tmp_path / "large", EMOTIONS, each=1, parts=("train", "test")))
    assert large.notes
    assert large.classes == EMOTIONS
    names = (*EMOTIONS, "contempt")
    eight = load_dataset(write_own(tmp_path / "eight", names, each=1, size=(48, 48), parts=("train", "test")))
    assert eight.classes == tuple(sorted(names))


def test_a_picture_is_set_upright_by_its_camera_s_word(tmp_path):
    root = write_own(tmp_path / "own", ("a", "b"), each=5)
    pixels = np.zeros((48, 48), np.uint8)
    pixels[:24] = 255
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 3  # upside down
    turned.save(root / "a" / "0.png", exif=exif)
    loaded = load_dataset(root)
    face = loaded.images[loaded.names.tolist().index("a/0.png")]
    assert (face[:24].max(), face[24:].min()) == (0, 255)


def spoil_own_text(root):
    (root / "a" / "notes.txt").write_text("none")


def spoil_own_depth(root):
    Image.new("I;16", (60, 60)).save(root / "a" / "0.png")


def spoil_own_empty_class(root):
    (root / "none").mkdir()


@pytest.mark.parametrize(
    ("spoil", "fault", "left"),
    [
        (spoil_own_text, "a/notes.txt is not an image; expected a PNG or JPEG", 15),
        (spoil_own_depth, "a/0.png has more than 8 bits a channel .*; expected an 8-bit image", 14),
        (spoil_own_empty_class, "none has no images; expected a folder of images of any size", 15),
    ],
)
def test_bad_input_of_ones_own_is_named_or_left_out(tmp_path, spoil, fault, left):
    root = write_own(tmp_path / "own", ("a", "b", "c"), each=5)
    spoil(root)
    with pytest.raises(DataError, match=fault) as caught:
        load_dataset(root)
    assert "\n" not in str(caught.value)
    loaded = load_dataset(root, skip_bad=True)
    assert len(loaded) == left
    assert loaded.classes == ("a", "b", "c")
    assert any("a/" in line or "none" in line for line in loaded.skipped)


def test_a_class_whose_pictures_are_all_bad_is_left_out_with_them(tmp_path):
    root = write_own(tmp_path / "own", ("a", "b", "c"), each=5, parts=("train", "test"))
    for path in (root / "train" / "b").iterdir():
        path.write_text("none")
    loaded = load_dataset(root, skip_bad=True)
    assert loaded.classes == ("a", "c")
    assert loaded.counts().tolist() == [10, 10]
    assert "the class b has no training image, and is left out" in loaded.skipped


@pytest.mark.parametrize(
    ("classes", "each", "parts", "fault"),
    [
        ((), 1, ("",), "has 0 classes; expected 2 to 50"),
        (("a",), 5, ("",), r"has 1 class \(a\); expected 2 to 50"),
        ([f"class {number}" for number in range(51)], 1, ("",), r"has 51 classes \(class 0, .*, …\); expected 2 to 50"),
        (("a", "b"), 2, ("",), "a has 2 images, too few different ones .* expected 5 or more"),
        (("a", "b"), 0, ("train", "test"), "train/a has no images"),
        (("a", "b"), 2, ("train",), "holds train/ and no test/; expected both, or a folder a class alone"),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_clear_line(tmp_path, classes, each, parts, fault):
    (tmp_path / "own").mkdir()
    write_own(tmp_path / "own", classes, each=each, parts=parts)
    with pytest.raises(DataError, match=fault) as caught:
        load_dataset(tmp_path / "own")
    assert "\n" not in str(caught.value)
