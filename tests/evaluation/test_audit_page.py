import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from mien.data.audit import audit
from mien.data.dataset import Dataset
from mien.evaluation import audit_page as paging
from mien.evaluation.audit_page import audit_page, pick


class Page(HTMLParser):
    """The addresses, headings and visible words of a page, and whether every tag is closed."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.headings: list[str] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.open += [] if tag in self.VOID else [tag]
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def pictures(count: int):
    noise = np.random.default_rng(0).integers(30, 220, (count, 8, 8), dtype=np.uint8)
    return [np.asarray(Image.fromarray(one).resize((48, 48), Image.Resampling.BICUBIC)) for one in noise]


def dataset_of(rows, labels, usage, names=None) -> Dataset:
    names = [f"im{number}.png" for number in range(len(rows))] if names is None else names
    return Dataset(np.stack(rows)[..., None].astype(np.uint8), np.array(labels), np.array(names), np.array(usage))


@pytest.fixture
def flawed() -> Dataset:
    """A conflict within training, a leak, a mirrored leak, a moved copy within training, and a blank."""
    a, b, c, d, e = pictures(5)
    return dataset_of(
        [a, a, b, b, c, c[:, ::-1], d, np.roll(d, 1, axis=0), np.zeros((48, 48)), e],
        labels=[0, 1, 2, 2, 3, 3, 4, 4, 5, 6],
        usage=["Training"] * 3 + ["PublicTest", "Training", "PrivateTest"] + ["Training"] * 4,
    )


def test_every_fault_has_its_section_the_gravest_first(flawed):
    page = Page(audit_page(audit(flawed), flawed))
    assert page.open == []
    assert page.headings == [
        "Images by class",
        "One picture, several labels",
        "Test images that training has too",
        "Nearly the same picture, across training and test",
        "Nearly the same picture, within one part",
        "Nothing to see",
    ]
    assert "50.0%of the test images" in page.words
    assert re.search(r"mirrored\s+happy", page.words)
    assert re.search(r"moved by a pixel or two\s+neutral", page.words)


def test_the_page_asks_for_nothing_from_outside(flawed):
    html = audit_page(audit(flawed), flawed)
    assert all(address.startswith("data:") for address in Page(html).addresses)
    assert not re.search(r"https?:|url\(|@import|<script", html)


def test_the_pictures_are_those_of_the_groups(flawed):
    page = Page(audit_page(audit(flawed), flawed))
    shown = [address.split(",")[1] for address in page.addresses if address.startswith("data:image/png;base64")]
    decoded = [np.asarray(Image.open(BytesIO(base64.b64decode(one)))) for one in shown]
    rows = [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert np.array_equal(decoded, flawed.images[rows, ..., 0])


def test_names_are_escaped():
    (a,) = pictures(1)
    dataset = dataset_of([a, a], [0, 1], ["Training"] * 2, names=['<b>"x"', "y"])
    html = audit_page(audit(dataset), dataset)
    assert "<b>&#34;" not in html
    assert "&lt;b&gt;&#34;x&#34;" in html


def test_groups_and_images_left_out_are_counted(monkeypatch):
    monkeypatch.setattr(paging, "GROUPS", 2)
    monkeypatch.setattr(paging, "FACES", 3)
    several = pictures(5)
    dataset = dataset_of([one for one in several for _ in range(5)], [0, 0, 0, 0, 1] * 5, ["Training"] * 25)
    page = Page(audit_page(audit(dataset), dataset))
    assert "Shown are 2 of 5 groups, picked evenly; 3 are left out here." in " ".join(page.words.split())
    assert page.words.count("and 2 more") == 2
    assert len([address for address in page.addresses if address.startswith("data:image")]) == 2 * 3


def test_data_without_faults_has_a_page_too():
    dataset = dataset_of(pictures(4), [0, 1, 2, 3], ["Training"] * 4)
    page = Page(audit_page(audit(dataset), dataset))
    assert page.headings == ["Images by class"]
    assert "No two of these images are alike" in page.words


def test_copies_within_one_part_are_no_data_without_faults():
    a, b = pictures(2)
    dataset = dataset_of([a, a, a, b], [0, 0, 0, 1], ["Training"] * 4)
    page = Page(audit_page(audit(dataset), dataset))
    assert page.headings == ["Images by class", "The same picture, several times within one part"]
    assert "No two of these images" not in page.words
    assert "test images" not in page.words


@pytest.mark.parametrize(("count", "most", "expected"), [(5, 9, [0, 1, 2, 3, 4]), (9, 3, [0, 4, 8]), (9, 1, [0])])
def test_picking_is_even_and_keeps_both_ends(count, most, expected):
    assert pick(range(count), most) == expected
