import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mien.data.dataset import CSV_EMOTIONS, Dataset, load_dataset
from mien.data.votes import ANSWERS, MICROSOFT_ANSWERS, Votes, load_votes
from mien.emotions import EMOTIONS
from mien.errors import DataError

NAMES = ("train/angry/im0.png", "train/happy/im0.png", "train/happy/im1.png", "test/sad/im0.png")
USAGE = ("Training", "Training", "Training", "PublicTest")
VOTES = {
    # neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, not_face
    "train/angry/im0.png": (1, 0, 0, 0, 6, 1, 0, 2, 0, 0),
    "train/happy/im0.png": (5, 5, 0, 0, 0, 0, 0, 0, 0, 0),
    "train/happy/im1.png": (0, 0, 0, 0, 0, 0, 0, 0, 1, 9),
    "test/sad/im0.png": (0, 0, 0, 3, 0, 0, 1, 0, 6, 0),
}


def blank_images(names):
    labels = [EMOTIONS.index(name.split("/")[1]) for name in names]
    usage = ["Training" if name.startswith("train") else "Test" for name in names]
    images = np.zeros((len(names), 48, 48, 1), np.uint8)
    return Dataset(images, np.array(labels), np.array(names), np.array(usage))


def write(path: Path, header, rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_votes(path: Path, votes) -> Path:
    return write(path, ("path", *ANSWERS), [(name, *counts) for name, counts in votes.items()])


@pytest.fixture
def votes(tmp_path):
    return load_votes(write_votes(tmp_path / "votes.csv", VOTES), blank_images(NAMES))


def test_votes_follow_the_order_of_the_images(tmp_path):
    shuffled = NAMES[::-1]
    votes = load_votes(write_votes(tmp_path / "votes.csv", VOTES), blank_images(shuffled))
    assert votes.counts.tolist() == [list(VOTES[name]) for name in shuffled]
    assert votes.matched.all()
    assert len(votes) == 4


def test_votes_become_shares_of_the_seven_emotions(votes):
    targets = dict(zip(EMOTIONS, votes.soft_targets()[0].tolist(), strict=True))
    assert targets == pytest.approx(
        {"angry": 6 / 8, "disgusted": 1 / 8, "neutral": 1 / 8, "fearful": 0, "happy": 0, "sad": 0, "surprised": 0}
    )
    assert votes.rated().tolist() == [True, True, False, True]
    assert not votes.soft_targets()[2].any()


def test_majority_agreement_and_ties(votes):
    assert votes.majority().tolist() == [EMOTIONS.index("angry"), -1, -1, EMOTIONS.index("sad")]
    assert votes.agreement() == pytest.approx([0.6, 0.5, 0.0, 0.3])


def test_classes_may_be_fewer_and_in_another_order(votes):
    assert votes.soft_targets(("sad", "fearful"))[3] == pytest.approx([0.75, 0.25])
    assert votes.majority(("sad", "fearful")).tolist() == [-1, -1, -1, 0]


@given(arrays(np.int64, (6, 10), elements=st.integers(0, 10)))
def test_soft_targets_are_a_distribution_or_nothing(counts):
    votes = Votes(counts, np.ones(6, bool))
    assert votes.soft_targets().sum(axis=1) == pytest.approx(votes.rated().astype(float))
    best = votes.majority()
    assert (votes.soft_targets().argmax(axis=1) == best)[best >= 0].all()
    assert not votes.agreement()[~votes.rated()].any()


def test_other_spellings_of_a_class_and_of_a_file_are_the_same_image(tmp_path):
    renamed = {name.replace("angry", "Anger").replace(".png", ".jpg"): counts for name, counts in VOTES.items()}
    votes = load_votes(write_votes(tmp_path / "votes.csv", renamed), blank_images(NAMES))
    assert votes.counts[0].tolist() == list(VOTES["train/angry/im0.png"])


def test_votes_for_other_images_are_passed_over(tmp_path):
    votes = load_votes(write_votes(tmp_path / "votes.csv", VOTES), blank_images(NAMES[3:]))
    assert votes.counts.tolist() == [list(VOTES["test/sad/im0.png"])]


def test_images_without_votes_are_counted_and_named(tmp_path):
    path = write_votes(tmp_path / "votes.csv", VOTES)
    others = [f"train/fearful/im{number}.png" for number in range(5)]
    with pytest.raises(
        DataError, match=r"no votes for 5 of 9 images \(train/fearful/im0.png, .*im1.png, .*im2.png, …\)"
    ):
        load_votes(path, blank_images([*NAMES, *others]))
    partial = load_votes(path, blank_images([*others, *NAMES]), partial=True)
    assert partial.matched.tolist() == [False] * 5 + [True] * 4
    assert not partial.counts[:5].any()
    assert not partial.rated()[:5].any()


def test_votes_for_none_of_the_images_are_refused_even_if_partial(tmp_path):
    path = write_votes(tmp_path / "votes.csv", VOTES)
    with pytest.raises(DataError, match="no votes for 1 of 1 images"):
        load_votes(path, blank_images(["train/sad/im0.png"]), partial=True)


def test_votes_that_may_be_a_neighbours_stay_unmatched(tmp_path):
    rows = [(name, int(name != NAMES[1]), *counts) for name, counts in VOTES.items()]
    path = write(tmp_path / "votes.csv", ("path", "exact", *ANSWERS), rows)
    votes = load_votes(path, blank_images(NAMES))
    assert votes.matched.tolist() == [True, False, True, True]
    assert not votes.counts[1].any()


@pytest.mark.parametrize("value", ["-1", "2.5", "many", ""])
def test_what_is_no_count_of_votes_is_refused_with_its_line(tmp_path, value):
    path = write(tmp_path / "votes.csv", ("path", *ANSWERS), [(NAMES[0], *[1] * 10), (NAMES[1], value, *[1] * 9)])
    with pytest.raises(DataError, match="line 3: .*expected whole numbers"):
        load_votes(path, blank_images(NAMES[:2]))


def test_an_image_listed_twice_is_refused(tmp_path):
    path = write(tmp_path / "votes.csv", ("path", *ANSWERS), [(NAMES[0], *[1] * 10)] * 2)
    with pytest.raises(DataError, match="1 images in 2 rows"):
        load_votes(path, blank_images(NAMES[:1]))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "no rows"),
        (b"path,neutral\n", "no rows"),
        (b"path,neutral\ntrain/sad/im0.png,1\n", "no column happiness, surprise"),
        (b"\xff\xfe\x00", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_file_of_votes_is_refused(tmp_path, content, complaint):
    path = tmp_path / "votes.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=complaint):
        load_votes(path, blank_images(NAMES))


@pytest.fixture
def microsoft(tmp_path):
    """NAMES as Microsoft's file and fer2013.csv list them, with an image of another class between the two happy ones."""
    order = [NAMES[0], NAMES[1], "train/sad/im0.png", NAMES[2], NAMES[3]]
    counts = {**VOTES, "train/sad/im0.png": (0, 0, 0, 9, 0, 0, 0, 0, 1, 0)}
    usage = ["Training"] * 4 + ["PublicTest"]
    emotions = [CSV_EMOTIONS.index(name.split("/")[1]) for name in order]
    return (
        write(
            tmp_path / "fer2013new.csv",
            ("Usage", "Image name", *MICROSOFT_ANSWERS),
            [(part, "fer0000000.png", *counts[name]) for part, name in zip(usage, order, strict=True)],
        ),
        write(
            tmp_path / "fer2013.csv",
            ("emotion", "pixels", "Usage"),
            [(emotion, "0 0", part) for emotion, part in zip(emotions, usage, strict=True)],
        ),
    )


def test_microsofts_rows_are_placed_by_fer2013_csv(microsoft):
    path, fer2013_csv = microsoft
    votes = load_votes(path, blank_images(NAMES), fer2013_csv=fer2013_csv)
    assert votes.counts.tolist() == [list(VOTES[name]) for name in NAMES]


def test_fer2013_csv_is_found_beside_microsofts_file(microsoft):
    votes = load_votes(microsoft[0], blank_images(NAMES))
    assert votes.counts.tolist() == [list(VOTES[name]) for name in NAMES]


def test_microsofts_file_alone_cannot_be_placed(microsoft):
    path, fer2013_csv = microsoft
    fer2013_csv.unlink()
    with pytest.raises(DataError, match=r"names no image.*expected that file beside it, or as the data"):
        load_votes(path, blank_images(NAMES))


def test_classes_that_nobody_was_asked_about_have_no_votes(votes):
    with pytest.raises(DataError, match="no votes for 'bored'; expected classes of neutral, happy"):
        votes.majority(("happy", "bored"))


def test_microsofts_file_must_have_the_rows_of_fer2013_csv(microsoft):
    path, fer2013_csv = microsoft
    fer2013_csv.write_text(fer2013_csv.read_text().replace("PublicTest", "PrivateTest"))
    with pytest.raises(DataError, match="other rows"):
        load_votes(path, blank_images(NAMES), fer2013_csv=fer2013_csv)


@pytest.mark.parametrize("emotion", ["7", "-1", "sad"])
def test_fer2013_csv_must_have_fer2013s_emotions(microsoft, emotion):
    path, fer2013_csv = microsoft
    fer2013_csv.write_text(fer2013_csv.read_text().replace("3,0 0", f"{emotion},0 0"))
    with pytest.raises(DataError, match="line 3: emotion is"):
        load_votes(path, blank_images(NAMES), fer2013_csv=fer2013_csv)


@pytest.mark.fer2013
def test_the_real_votes_agree_with_the_labels_as_often_as_is_known(fer2013):
    path = fer2013.parent / "ferplus" / "votes.csv"
    if not path.exists():
        pytest.skip(f"no votes at {path}")
    dataset = load_dataset(fer2013)
    votes = load_votes(path, dataset)
    assert votes.matched.sum() == 35_710
    over_half = votes.agreement() > 0.5
    right = votes.majority() == dataset.labels
    assert right[over_half].mean() == pytest.approx(0.718, abs=0.0005)
    shares = {name: right[dataset.labels == label].mean() for label, name in enumerate(EMOTIONS)}
    assert shares["happy"] > 0.85 > shares["neutral"] > 0.8
    assert shares["fearful"] < 0.15
