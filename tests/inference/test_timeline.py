"""Following against scenes whose persons are known, smoothing against its own laws, spans against labels written out."""

import itertools
import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.inference.classifier import Face
from mien.inference.predict import follow
from mien.inference.schema import Result
from mien.inference.timeline import HALF_LIFE, PATIENCE, Follower, Span, Timeline, blend, chart, match, prevailing

CLASSES = ("calm", "glad", "grim")


def face(x: int = 0, y: int = 0, side: int = 100, *, shares=(0.6, 0.3, 0.1)) -> Face:
    probabilities = dict(zip(CLASSES, shares, strict=True))
    emotion = max(probabilities, key=probabilities.get)
    return Face((x, y, side, side), 0.9, emotion, probabilities, probabilities[emotion], False)


def persons(follower: Follower, faces: list[Face], seconds: float) -> list[int]:
    return [found.person for found in follower.follow(faces, seconds)]


def test_persons_keep_their_numbers_while_they_move():
    """One walks right, one left, a third comes in later; faces are given in ever another order."""
    follower = Follower()
    for frame in range(40):
        walkers = {1: face(5 * frame, 0), 2: face(600 - 5 * frame, 300, 80)}
        if frame == 0:
            assert persons(follower, list(walkers.values()), 0.0) == [1, 2]
            continue
        if frame >= 20:
            walkers[3] = face(800, 3 * frame, 60)
        order = list(walkers) if frame % 2 else list(walkers)[::-1]
        assert persons(follower, [walkers[number] for number in order], frame / 25) == order


def test_someone_out_of_sight_for_a_moment_is_the_same_and_for_long_another():
    follower = Follower()
    assert persons(follower, [face()], 0.0) == [1]
    for step in range(1, 5):
        assert persons(follower, [], step / 5) == []
    assert persons(follower, [face(10)], 1.0) == [1]
    for step in range(1, 20):
        persons(follower, [], 1.0 + step / 5)
    assert persons(follower, [face(10)], 5.0) == [2]


def test_where_few_frames_are_read_patience_lasts_longer():
    follower = Follower()
    assert [persons(follower, [face()] if frame % 2 == 0 else [], frame * 2.0) for frame in range(6)] == [
        [1], [], [1], [], [1], [],
    ]  # fmt: skip


def test_a_face_that_jumps_or_changes_its_size_is_someone_else():
    follower = Follower()
    persons(follower, [face(0, 0, 100)], 0.0)
    assert persons(follower, [face(90, 0, 100)], 0.04) == [2]
    follower = Follower()
    persons(follower, [face(0, 0, 100)], 0.0)
    assert persons(follower, [face(0, 0, 199)], 0.04) == [2]


boxes = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(1, 200), st.integers(1, 200)), max_size=8
)


@given(boxes, boxes)
def test_no_face_continues_two_and_no_two_one(before, now):
    found = match(before, now)
    assert len(found) == len(now)
    used = [row for row in found if row is not None]
    assert len(used) == len(set(used))
    assert all(row in range(len(before)) for row in used)


@given(boxes)
def test_what_stands_still_stays_itself(still):
    """In one and the same scene each box is continued by one of just its place."""
    found = match(still, still)
    assert all(row is not None and still[row] == box for row, box in zip(found, still, strict=True))


shares = st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(
    lambda parts: tuple(part / sum(parts) for part in parts)
)


@given(st.lists(st.tuples(shares, st.floats(0.001, 0.9)), min_size=1, max_size=60))
def test_smoothed_probabilities_stay_probabilities(frames):
    follower, seconds = Follower(minimum_confidence=0.5), 0.0
    for given_shares, pause in frames:
        seconds += pause
        (found,) = follower.follow([face(shares=given_shares)], seconds)
        assert sum(found.probabilities.values()) == pytest.approx(1)
        assert all(0 <= value <= 1 for value in found.probabilities.values())
        assert found.confidence == found.probabilities[found.emotion]
        assert found.uncertain == (found.confidence < 0.5)
        assert found.person == 1


@given(shares, st.integers(1, 60))
def test_what_does_not_change_is_not_changed(constant, frames):
    follower = Follower()
    for frame in range(frames):
        (found,) = follower.follow([face(shares=constant)], frame / 25)
    assert list(found.probabilities.values()) == pytest.approx(constant)
    assert found.emotion == face(shares=constant).emotion


@given(shares, shares, st.floats(0, 5))
def test_blend_moves_half_the_way_in_a_half_life(old, new, seconds):
    old, new = (dict(zip(CLASSES, values, strict=True)) for values in (old, new))
    blended = blend(old, new, seconds)
    for name in CLASSES:
        left = 0.5 ** (seconds / HALF_LIFE)
        assert blended[name] == pytest.approx(left * old[name] + (1 - left) * new[name])
    halves = blend(blend(old, new, seconds / 2), new, seconds / 2)
    assert halves == pytest.approx(blended)


def test_smoothing_does_not_depend_on_the_frame_rate():
    results = []
    for rate in (10, 50):
        follower = Follower()
        follower.follow([face(shares=(0.9, 0.05, 0.05))], 0.0)
        for frame in range(1, rate + 1):
            (found,) = follower.follow([face(shares=(0.1, 0.8, 0.1))], frame / rate)
        results.append(found.probabilities)
    assert results[0] == pytest.approx(results[1])


def test_a_misread_frame_does_not_change_the_label_but_a_lasting_change_does():
    follower = Follower()
    calm, glad = (0.8, 0.1, 0.1), (0.1, 0.8, 0.1)
    labels = []
    for frame in range(100):
        given_shares = glad if frame == 30 or frame >= 60 else calm
        (found,) = follower.follow([face(shares=given_shares)], frame / 25)
        labels.append(found.emotion)
    assert set(labels[:60]) == {"calm"}
    change = labels.index("glad")
    assert 60 < change <= 60 + 25  # within a second
    assert set(labels[change:]) == {"glad"}


@given(st.lists(st.sampled_from(CLASSES), min_size=1, max_size=30), st.sampled_from(CLASSES))
def test_the_prevailing_label_is_a_most_frequent_one(labels, before):
    label = prevailing(labels, before)
    most = max(labels.count(name) for name in CLASSES)
    assert labels.count(label) == most
    assert label == before or labels.count(before) < most


def test_a_timestamp_that_stands_still_or_goes_back_is_borne():
    follower = Follower()
    for seconds in (0.0, 0.0, 1.0, 0.5, 0.5):
        (found,) = follower.follow([face()], seconds)
    assert found.person == 1


def test_memory_does_not_grow_with_the_video():
    """Ever new persons, at a thousand frames a second: those long gone are forgotten, and labels of old."""
    follower, timeline = Follower(), Timeline()
    for frame in range(900):
        seconds = frame / (1000 if frame < 400 else 25)
        faces = follower.follow([face(1000 * (frame // 50 % 7), 100 * place) for place in range(2)], seconds)
        timeline.add(Result("clip.mp4", frame, seconds, 64, 48, faces))
        assert len(follower.persons) <= 22
        assert len(timeline.open) <= 22
        assert max(len(person.labels) for person in follower.persons) <= 256
    assert follower.known >= 30


def scene(labels: str, *, source: str = "clip.mp4", person: int = 1) -> list[Result]:
    """A frame every half second; c is calm, g glad, and . nobody."""
    results = []
    for frame, letter in enumerate(labels):
        faces = ()
        if letter != ".":
            emotion = {"c": "calm", "g": "glad"}[letter]
            faces = (Face((0, 0, 9, 9), 1.0, emotion, {emotion: 1.0}, 0.5 + frame / 100, False, person),)
        results.append(Result(source, frame, frame / 2, 64, 48, faces))
    return results


def spans_of(results):
    """As they end."""
    timeline = Timeline()
    for result in results:
        yield from timeline.add(result)
    yield from timeline.close()


def described(spans) -> list[tuple]:
    return [(span.source, span.person, span.emotion, span.start, span.end, span.frames) for span in spans]


def test_spans_are_the_stretches_of_one_label():
    spans = list(spans_of(scene("cccgg.gc")))
    assert described(spans) == [
        ("clip.mp4", 1, "calm", 0.0, 1.0, 3),
        ("clip.mp4", 1, "glad", 1.5, 3.0, 3),
        ("clip.mp4", 1, "calm", 3.5, 3.5, 1),
    ]
    assert spans[0].confidence == pytest.approx(0.51)
    assert (spans[1].first_frame, spans[1].last_frame) == (3, 6)


def test_where_few_frames_are_read_spans_last_longer():
    frames = [replace(result, seconds=1.5 * number) for number, result in enumerate(scene("cccc"))]
    assert [(span.first_frame, span.last_frame) for span in spans_of(frames)] == [(0, 3)]


def test_the_same_video_once_more_begins_anew():
    spans = list(spans_of([*scene("cc"), *scene("cc")]))
    assert [span.frames for span in spans] == [2, 2]
    persons = [result.faces[0].person for result in follow([*scene("cc"), *scene("cc")], 0.0)]
    assert persons == [1, 1, 1, 1]


def test_spans_end_with_their_source_and_when_someone_is_gone():
    gone = int(PATIENCE * 2) + 1
    results = [
        *scene("cc" + "." * gone + "c"),
        *scene("g", source="other.mp4"),
        Result("bad.mp4", error="bad"),
        Result("photo.jpg", 0),
    ]
    assert described(spans_of(results)) == [
        ("clip.mp4", 1, "calm", 0.0, 0.5, 2),
        ("clip.mp4", 1, "calm", (2 + gone) / 2, (2 + gone) / 2, 1),
        ("other.mp4", 1, "glad", 0.0, 0.0, 1),
    ]


@given(st.lists(st.text("cg.", max_size=30), min_size=1, max_size=3))
def test_spans_hold_every_frame_once_and_none_twice(videos):
    results = [result for number, labels in enumerate(videos) for result in scene(labels, source=f"{number}.mp4")]
    spans = list(spans_of(results))
    assert sum(span.frames for span in spans) == sum(len(result.faces) for result in results)
    for one, other in itertools.combinations(spans, 2):
        if one.source == other.source:
            assert one.last_frame < other.first_frame or other.last_frame < one.first_frame
    for span in spans:
        json.dumps(span.to_dict(), allow_nan=False)


def test_a_chart_has_room_for_the_names_of_all_its_colours():
    spans = [Span("a.mp4", 1, f"class {number:02}", number, number, 0.0, 1.0, 1, 0.9) for number in range(15)]
    drawn = ElementTree.fromstring(chart(spans))
    wide, high = int(drawn.get("width")), int(drawn.get("height"))
    names = [text for text in drawn if len(text) and "class" in (text[0].tail or "")]
    places = {(float(name.get("x")), float(name.get("y"))) for name in names}
    assert len(places) == 15
    assert max(x for x, _ in places) + 100 <= wide
    assert max(y for _, y in places) < high
