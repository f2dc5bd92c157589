import re

import numpy as np

from mien.data.dataset import Dataset
from mien.emotions import EMOTIONS
from mien.evaluation.doubts_page import SHOWN, ClassDoubts, Doubt, count_doubts, doubts_page


def make_dataset(names):
    labels = np.arange(len(names)) % 7
    images = np.random.default_rng(0).integers(0, 256, (len(names), 48, 48, 1), np.uint8)
    return Dataset(images, labels, np.array(names), np.full(len(names), "Training"))


def make_doubts(dataset, rows, suggested="sad"):
    return tuple(
        Doubt(row, str(dataset.names[row]), EMOTIONS[dataset.labels[row]], suggested, 0.01, 0.9) for row in rows
    )


def words_of(page):
    return " ".join(re.sub("<[^>]+>", " ", page[page.index("<main") :]).split())


def test_the_page_shows_the_most_doubtful_and_counts_all():
    dataset = make_dataset([f"train/x/im{row}.png" for row in range(300)])
    page = doubts_page(make_doubts(dataset, range(150)), dataset)
    words = words_of(page)
    assert "50.0% of the labels are in doubt: 150 images" in words
    assert "The 100 most doubtful" in words
    assert page.count("data:image/png;base64,") == SHOWN
    assert "labelled disgusted reads as sad (90%) im1.png" in words
    assert "im100.png" not in words
    assert not re.search(r"(src|href)=\"(?!data:)", page)


def test_doubts_are_counted_by_class():
    dataset = make_dataset([f"im{row}" for row in range(21)])
    doubts = make_doubts(dataset, [0, 7]) + make_doubts(dataset, [14], "happy") + make_doubts(dataset, [1], "angry")
    assert count_doubts(doubts, dataset)[:3] == [
        ClassDoubts("angry", 3, 3, "sad"),
        ClassDoubts("disgusted", 3, 1, "angry"),
        ClassDoubts("fearful", 3, 0, None),
    ]


def test_without_doubts_the_page_says_so():
    dataset = make_dataset(["a", "b"])
    words = words_of(doubts_page((), dataset))
    assert "No label is in doubt" in words
    assert "most doubtful" not in words


def test_names_are_text_not_markup():
    dataset = make_dataset(['<script>alert("x")</script>'])
    assert "<script" not in doubts_page(make_doubts(dataset, [0]), dataset)
