"""More than 10,000 damaged pictures and videos: each is read, or is a DataError of one line; none crashes or hangs."""

import io
import os
import struct
import time

import cv2
import numpy as np
import pytest
from PIL import Image, features

from mien.errors import DataError
from mien.inference.classifier import Face
from mien.inference.faces import WholePicture
from mien.inference.media import open_source

os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"  # FFmpeg asks once, and the clip is written before mien sets it
FORMS = {
    "BMP": {},
    "GIF": {},
    "ICO": {},
    "JPEG": {},
    "JPEG2000": {},
    "PCX": {},
    "PNG": {},
    "PPM": {},
    "SGI": {},
    "TGA": {},
    "TIFF": {"compression": "tiff_lzw"},
    "WEBP": {},
}
EACH = 1000
LONGEST = 20  # seconds for one file, on a busy machine
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 48, 49, 20_000)


def picture(form: str, options: dict) -> bytes:
    """A small picture with EXIF, where the format has it."""
    noise = np.random.default_rng(1).integers(0, 256, (24, 20, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {"exif": exif.tobytes()} if form in ("JPEG", "PNG", "WEBP") else {}
    file = io.BytesIO()
    Image.fromarray(noise).save(file, form, **options, **more)
    return file.getvalue()


def mutate(content: bytes, chance: np.random.Generator) -> bytes:
    """One to four changes: bits, bytes, numbers, cuts, repeats and swaps, half of them in the first 64 bytes."""
    damaged = bytearray(content)
    for _ in range(chance.integers(1, 5)):
        end = min(64, len(damaged)) if chance.random() < 0.5 else len(damaged)
        at = int(chance.integers(0, max(1, end)))
        to = at + int(chance.integers(1, 33))
        kind = chance.integers(0, 6)
        if kind == 0 and damaged:
            damaged[at] ^= 1 << int(chance.integers(0, 8))
        elif kind == 1:
            damaged[at:to] = chance.bytes(to - at)
        elif kind == 2:
            number = EXTREMES[chance.integers(0, len(EXTREMES))]
            damaged[at : at + 4] = struct.pack("<I" if chance.random() < 0.5 else ">I", number)
        elif kind == 3:
            del damaged[at : len(damaged) if chance.random() < 0.3 else to]
        elif kind == 4:
            damaged[at:at] = damaged[at:to] * int(chance.integers(1, 9))
        else:
            there = int(chance.integers(0, max(1, len(damaged))))
            damaged[at : at + 8], damaged[there : there + 8] = damaged[there : there + 8], damaged[at : at + 8]
    return bytes(damaged)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_picture_is_read_or_refused_in_one_line(classifier, tmp_path, form):
    if form == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("this Pillow reads no JPEG 2000")
    content, chance, path = picture(form, FORMS[form]), np.random.default_rng(0), tmp_path / "picture"
    path.write_bytes(content)
    assert len(classifier.read(path, detector=WholePicture())) == 1
    refusals = []
    for _ in range(EACH):
        path.write_bytes(mutate(content, chance))
        began = time.monotonic()
        try:
            faces = classifier.read(path, detector=WholePicture())
            for number, _ in enumerate(open_source(str(path), animated=True)):
                assert number < EACH
        except DataError as error:
            refusals.append(str(error))
        else:
            assert all(isinstance(face, Face) for face in faces)
        assert time.monotonic() - began < LONGEST
    assert all(refusal.startswith(str(path)) and "\n" not in refusal for refusal in refusals)
    assert len(refusals) > EACH / 20  # the changes do damage


@pytest.mark.slow
def test_a_damaged_video_is_read_or_refused_in_one_line(tmp_path):
    path, chance = tmp_path / "clip.avi", np.random.default_rng(0)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 24))
    for level in range(6):
        writer.write(np.full((24, 32, 3), 40 * level, np.uint8))
    writer.release()
    content, refusals = path.read_bytes(), []
    for _ in range(EACH):
        path.write_bytes(mutate(content, chance))
        began = time.monotonic()
        try:
            for number, _ in enumerate(open_source(str(path))):
                assert number < 1000
        except DataError as error:
            refusals.append(str(error))
        assert time.monotonic() - began < LONGEST
    assert all(refusal.startswith(str(path)) and "\n" not in refusal for refusal in refusals)
    assert 0 < len(refusals) < EACH
