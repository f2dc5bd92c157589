"""An emotion in, a drawn 48×48 grey face out; and whole data sets of them, for when FER2013 is not at hand.

A face is a person (who), action units (what the muscles do) and a scene (how it is held, lit and photographed), all
drawn at random. Together they give outlines on the surface of a head, which are painted back to front.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, UInt8
from PIL import Image, ImageDraw, ImageFilter

from mien.data.dataset import TEST, TRAINING, Dataset
from mien.emotions import EMOTIONS, SIZE, Images, Labels
from mien.errors import DataError

# Faces are rows, so a trait (a column) meets the points of a curve by broadcasting. Lengths are in half pictures: x and
# y run from -1 (left, top) to 1. Tones run from 0 (black) to 255, strengths of action units from 0 to 1.2.
Column = Float[np.ndarray, "#n 1"]
Trait = Column | float
Curve = Float[np.ndarray, "#n #points"]
Outlines = Float[np.ndarray, "n points 2"]
Pictures = Float32[np.ndarray, "n 48 48"]
Face = UInt8[np.ndarray, "48 48 1"]
Units = dict[str, Column]

TRAINING_COUNTS = (3995, 436, 4097, 7215, 4965, 4830, 3171)  # FER2013's, in the order of EMOTIONS
TEST_COUNTS = (958, 111, 1024, 1774, 1233, 1247, 831)
LEAST = 2  # images of a class in each part: a stratified split needs two
BATCH = 256  # faces drawn at once: bounds memory, and keeps arrays in the processor's cache

# After the prototypes and major variants in the FACS Investigator's Guide (Ekman, Friesen & Hager 2002), which go back to
# Ekman & Friesen's FACS (1978) and EMFACS (1983). Those of one emotion are equally likely. The strengths, on FACS' own
# scale of A (trace) to E (maximum), are chosen by eye.
PROTOTYPES = {
    "angry": ("4E+5C+7D+17C+23E", "4E+5D+7C+10C+23C+25D+26A", "4E+7D+23D"),
    "disgusted": ("9E+10D+4B+6B+15B+17C", "9E+10E+16D+25D+4B+6B+7B", "9D+10E+15C+7C+17C"),
    "fearful": ("1E+2C+4C+5E+20E+25E", "1E+2C+4C+5E+20D+25D+26C", "1E+2B+4D+5E+20D+25B"),
    "happy": ("6E+12E+25E", "6D+12E", "6E+12E+25E+26C"),
    "neutral": ("",),
    "sad": ("1E+4C+15E+17C", "1D+4C+15D+64D", "1E+4C+15E+17B+25B+64B"),
    "surprised": ("1E+2E+5D+25C+26E", "1E+2E+5D+25B+26C", "1E+2E+5E+26D"),
}
ACTION_UNITS = {
    1: "inner_brow_raiser",
    2: "outer_brow_raiser",
    4: "brow_lowerer",
    5: "upper_lid_raiser",
    6: "cheek_raiser",
    7: "lid_tightener",
    9: "nose_wrinkler",
    10: "upper_lip_raiser",
    12: "lip_corner_puller",
    15: "lip_corner_depressor",
    16: "lower_lip_depressor",
    17: "chin_raiser",
    20: "lip_stretcher",
    23: "lip_tightener",
    25: "lips_part",
    26: "jaw_drop",
    64: "eyes_down",
}

SUPERSAMPLING = 4  # hard shapes are painted at this many times SIZE, then averaged down
UNPAINTED = -1.0  # the tone of a shape that a face goes without
PLAIN = 128  # the grey that stands for light as it is, so that a soft shape can darken it or double it
SIDES = (-1, 1)
TEMPLE = -0.3  # y, where the hair begins beside the eyes
STRANDS = (1.35, 0.7, 1.35, 0.7, 1.35, 0.7, 1.35)  # their tones, of the hair's
ACROSS = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 11)).astype(np.float32)[None]  # -1..1, denser towards the ends
DOME = 1 - ACROSS**2
ALONG = np.linspace(0, 1, 5, dtype=np.float32)[None]
AROUND = np.linspace(0, 2 * np.pi, 15, dtype=np.float32)[None]
HEAD = np.linspace(0, 2 * np.pi, 27, dtype=np.float32)[None]  # from the crown, clockwise


def draw_face(emotion: str, *, rng: np.random.Generator) -> Face:
    """Draw one face, uint8 (48, 48, 1), 0..255; the next one from the same `rng` is somebody else's.

    Raises DataError for an emotion that is not one of EMOTIONS.
    """
    if emotion not in EMOTIONS:
        raise DataError(f"emotion is {emotion!r}; expected one of {', '.join(EMOTIONS)}")
    face: Face = draw_faces(np.array([EMOTIONS.index(emotion)]), rng)[0]
    return face


def draw_dataset(*, training: int = 2800, test: int = 700, seed: int = 0) -> Dataset:
    """Draw a small FER2013: its classes, their imbalance, its two parts. The same seed gives the same bytes.

    Each part has at least 14 images, two of each class, and does not depend on the size of the other. Raises DataError
    if fewer are asked for.
    """
    counts = share_out(training, TRAINING_COUNTS), share_out(test, TEST_COUNTS)
    chances = [np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(2)]
    first, second = draw_part("train", TRAINING, counts[0], chances[0]), draw_part("test", TEST, counts[1], chances[1])
    return Dataset(
        images=np.concatenate([first.images, second.images]),
        labels=np.concatenate([first.labels, second.labels]),
        names=np.concatenate([first.names, second.names]),
        usage=np.concatenate([first.usage, second.usage]),
    )


def draw_part(folder: str, usage: str, counts: Labels, rng: np.random.Generator) -> Dataset:
    labels = np.repeat(np.arange(len(EMOTIONS)), counts)
    batches = np.split(labels, np.arange(BATCH, len(labels), BATCH))
    images = np.concatenate([draw_faces(batch, rng) for batch in batches])
    names = [f"{folder}/{emotion}/im{i}.png" for emotion, n in zip(EMOTIONS, counts, strict=True) for i in range(n)]
    return Dataset(images, labels, np.array(names), np.full(len(labels), usage))


def share_out(total: int, weights: tuple[int, ...]) -> Labels:
    """Split `total` in the proportions of `weights` by largest remainder, int64; no share is less than LEAST."""
    if total < LEAST * len(weights):
        least = LEAST * len(weights)
        raise DataError(f"{total} faces were asked for; expected {least} or more, {LEAST} of each class: ask for more")
    exact = total * np.array(weights) / sum(weights)
    shares = np.floor(exact).astype(np.int64)
    shares[np.argsort(shares - exact, kind="stable")[: total - shares.sum()]] += 1
    while shares.min() < LEAST:
        shares[shares.argmin()] += 1
        shares[shares.argmax()] -= 1
    return shares


def draw_faces(labels: Labels, rng: np.random.Generator) -> Images:
    """Draw a face for each label, every one of another person."""
    chance = Chance(len(labels), rng)
    people, units, scene = People(chance), sample_units(labels, chance), Scene(chance)
    shapes = sketch(people, units, scene)
    x, y = join([shape.x for shape in shapes], len(labels)), join([shape.y for shape in shapes], len(labels))
    return photograph(paint(shapes, pose(x, y, people, scene), scene.background), scene, rng)


class Chance:
    """Random traits, one a face: float32 columns (number, 1)."""

    def __init__(self, number: int, rng: np.random.Generator) -> None:
        self.shape, self.rng = (number, 1), rng

    def about(self, mean: float, spread: float) -> Column:
        """Normal, cut at two standard deviations so that nobody is a monster."""
        return mean + spread * self.rng.standard_normal(self.shape, dtype=np.float32).clip(-2, 2)

    def within(self, low: float, high: float) -> Column:
        return low + (high - low) * self.rng.random(self.shape, dtype=np.float32)

    def some(self, share: float, yes: Trait, no: Trait) -> Column:
        """`yes` for this share of the faces, `no` for the others."""
        column: Column = np.where(self.rng.random(self.shape) < share, yes, no).astype(np.float32)
        return column


class People:
    """Who is drawn: what stays of a face when its expression changes."""

    def __init__(self, chance: Chance) -> None:
        about, within, some = chance.about, chance.within, chance.some
        self.skin = within(95.0, 205.0)
        self.hair = some(0.75, within(0.12, 0.5), within(1.0, 1.35)) * self.skin
        self.brow = np.minimum(0.9 * self.hair, 0.5 * self.skin)
        self.scalp = some(0.07, UNPAINTED, self.hair)
        self.beard = some(0.12, 0.6 * self.brow + 0.4 * self.skin, UNPAINTED)
        self.glasses = some(0.1, within(15.0, 60.0), UNPAINTED)
        self.lips = within(0.62, 0.86) * self.skin
        self.iris = within(20.0, 85.0)
        self.clothes = within(20.0, 220.0)
        self.head_width = about(0.64, 0.03)
        self.head_height = about(0.86, 0.03)
        self.jaw = about(0.08, 0.06)  # how much narrower the chin is than an ellipse's
        self.hairline = about(-0.52, 0.09)
        self.parting = about(0.0, 0.3)
        self.hair_volume = within(0.02, 0.2)
        self.hair_end = some(0.5, within(-0.15, 0.1), within(0.4, 1.2))
        self.brow_gap = about(0.165, 0.018)  # between eye and brow
        self.brow_weight = about(0.062, 0.014)
        self.brow_arch = about(0.03, 0.012)
        self.eye_line = about(-0.12, 0.025)
        self.eye_spread = about(0.295, 0.018)  # from the middle of the face
        self.eye_width = about(0.165, 0.012)
        self.eye_height = about(0.08, 0.012)
        self.eye_slant = about(0.0, 0.012)
        self.gaze = about(0.0, 0.02)
        self.nose_line = about(0.24, 0.025)
        self.nose_width = about(0.12, 0.014)
        self.mouth_line = about(0.52, 0.025)
        self.mouth_width = about(0.27, 0.022)
        self.mouth_curl = about(0.01, 0.012)
        self.upper_lip = about(0.045, 0.012)
        self.lower_lip = about(0.06, 0.013)
        self.lopsided = about(0.0, 0.01)


class Scene:
    """How the head is held (in radians), lit (from where, 1 being the picture's edge) and photographed."""

    def __init__(self, chance: Chance) -> None:
        about, within = chance.about, chance.within
        self.yaw, self.nod, self.tilt = about(0.0, 0.16), about(0.0, 0.08), about(0.0, 0.06)
        self.right, self.down, self.scale = about(0.0, 0.025), about(-0.05, 0.025), about(1.12, 0.04)
        self.light_right, self.light_down = about(0.0, 0.5), about(-0.25, 0.3)
        self.shadow = within(0.25, 0.6)
        self.background = within(10.0, 245.0)
        self.contrast, self.brightness = within(0.75, 1.2), about(5.0, 12.0)
        self.grain = within(0.5, 3.5)


def read_prototype(formula: str) -> Float32[np.ndarray, " units"]:
    """FACS notation to the strength of each of ACTION_UNITS: "4E+5C" is unit 4 at 1.0 and unit 5 at 0.6."""
    terms = {int(term[:-1]): ("ABCDE".index(term[-1]) + 1) / 5 for term in formula.split("+") if term}
    return np.array([terms.get(unit, 0) for unit in ACTION_UNITS], np.float32)


def sample_units(labels: Labels, chance: Chance) -> Units:
    """A prototype of each face's emotion, at some strength, and a trace of every other unit."""
    variants = [[read_prototype(formula) for formula in PROTOTYPES[emotion]] for emotion in EMOTIONS]
    picks = chance.within(0.0, 1.0)[:, 0]
    options = [variants[label] for label in labels]
    chosen = np.stack([of[int(pick * len(of))] for of, pick in zip(options, picks, strict=True)])
    strength = chance.within(0.5, 1.15)
    units = {}
    for column, name in enumerate(ACTION_UNITS.values()):
        trace = np.abs(chance.about(0.0, 0.07))
        units[name] = (chosen[:, [column]] * strength * chance.about(1.0, 0.2) + trace).clip(0, 1.2)
    return units


@dataclass(frozen=True)
class Shape:
    """A filled outline. A hard one is painted in its tone; a soft one, blurred, multiplies the light by its tone."""

    x: Curve
    y: Curve
    tone: Trait
    soft: bool = False


def between(x: Curve, upper: Curve, lower: Curve, tone: Column) -> Shape:
    """The region between two curves over the same x."""
    x, upper, lower = np.broadcast_arrays(x, upper, lower)
    return Shape(np.hstack([x, x[:, ::-1]]), np.hstack([upper, lower[:, ::-1]]), tone)


def stroke(x: Curve, y: Curve, width: Curve | float, tone: Column) -> Shape:
    """A pencil line along a curve, `width` wide at each of its points."""
    x, y = np.broadcast_arrays(x, y)
    along_x, along_y = np.gradient(x, axis=1), np.gradient(y, axis=1)
    half = width / 2 / np.hypot(along_x, along_y).clip(1e-6)
    left, up = -along_y * half, along_x * half
    return Shape(np.hstack([x + left, (x - left)[:, ::-1]]), np.hstack([y + up, (y - up)[:, ::-1]]), tone)


def ellipse(x: Trait, y: Column, width: Trait, height: float, tone: Trait, *, soft: bool = False) -> Shape:
    """An ellipse by its centre and half axes."""
    outline_x, outline_y = np.broadcast_arrays(x + width * np.cos(AROUND), y + height * np.sin(AROUND))
    return Shape(outline_x, outline_y, tone, soft)


def wrinkle(people: People, x: Curve, y: Curve, depth: Column) -> Shape:
    """A line in the skin that darkens and widens with `depth`, 0..1, from nothing."""
    depth = depth.clip(0, 1)
    taper = 1 - 0.8 * np.linspace(-1, 1, x.shape[1], dtype=np.float32) ** 2
    tone = np.where(depth > 0.08, people.skin * (1 - 0.42 * depth), UNPAINTED)
    return stroke(x, y, (0.015 + 0.022 * depth) * taper, tone)


def sketch(people: People, units: Units, scene: Scene) -> list[Shape]:
    """Every shape of the faces, from back to front."""
    paired = (draw_fold, draw_crow_feet, draw_eye, draw_brow)
    return [
        *draw_body(people),
        *draw_head(people, units),
        *draw_shading(people, units, scene),
        *draw_forehead(people, units),
        *[shape for draw in paired for side in SIDES for shape in draw(people, units, side)],
        *draw_nose(people, units),
        *draw_chin(people, units),
        *draw_mouth(people, units),
        *draw_glasses(people),
        *draw_hair(people),
    ]


def draw_body(people: People) -> list[Shape]:
    """Hair behind the head, neck, clothes and ears."""
    neck_x, neck_y = 0.62 * people.head_width * ACROSS, np.full_like(ACROSS, 0.5)
    return [
        Shape(*hair_outline(people), people.scalp),
        between(1.6 * ACROSS, 0.95 + 0.3 * ACROSS**2, 2 + 0 * ACROSS, people.clothes),
        between(neck_x, neck_y, neck_y + 0.6, 0.72 * people.skin),
        *[ellipse(side * people.head_width, people.eye_line + 0.13, 0.07, 0.15, 0.85 * people.skin) for side in SIDES],
    ]


def hair_outline(people: People) -> tuple[Curve, Curve]:
    x, y = crown(people, ACROSS)
    length = people.hair_end - TEMPLE
    side_x = x[:, -1:] * (1 + 0.1 * length * np.sin(np.pi * ALONG) - 0.2 * ALONG**3)
    side_y = TEMPLE + length * ALONG
    return np.hstack([-side_x[:, ::-1], x, side_x]), np.hstack([side_y[:, ::-1], y, side_y])


def crown(people: People, at: Curve) -> tuple[Curve, Curve]:
    """The upper edge of the hair, from the left temple (`at` -1) over the top to the right one (1)."""
    top = 0.08 - people.head_height - people.hair_volume
    return (people.head_width + 0.5 * people.hair_volume) * at, TEMPLE - (TEMPLE - top) * np.sqrt(1 - at**2)


def hairline(people: People, at: Curve) -> Curve:
    """The lower edge of the hair over the forehead, highest at the parting."""
    away = np.abs(at - 0.6 * people.parting * (1 - at**2))
    height = people.hairline + 0.3 * np.abs(people.parting) * away**2
    line: Curve = height + (TEMPLE + 0.12 - people.hairline) * away**6
    return line


def draw_head(people: People, units: Units) -> list[Shape]:
    """Head and beard."""
    x, y = head_outline(people, units)
    jaw_x, jaw_y = x[:, 7:-7], y[:, 7:-7]
    at = np.linspace(0.98, -0.98, jaw_x.shape[1], dtype=np.float32)[None]
    cheek = 0.37 + 0.28 * np.abs(at) + 0.3 * at**2 - 0.9 * at**4
    beard_x, beard_y = np.hstack([jaw_x, people.head_width * at[:, ::-1]]), np.hstack([jaw_y, cheek + 0 * jaw_y])
    return [Shape(x, y, people.skin), Shape(beard_x, beard_y, people.beard)]


def head_outline(people: People, units: Units, *, scale: float = 1.0) -> tuple[Curve, Curve]:
    """The outline of the head, clockwise from the crown, shrunk about the middle of the face."""
    across, down = np.sin(HEAD), -np.cos(HEAD)
    chin = down.clip(0) ** 2
    x = people.head_width * np.sign(across) * np.abs(across) ** 0.85 * (1 - people.jaw * chin)
    return scale * x, 0.08 + scale * (people.head_height * down + 0.07 * units["jaw_drop"] * chin)


def draw_shading(people: People, units: Units, scene: Scene) -> list[Shape]:
    """Hollows darker and bulges lighter than the rest of the face."""
    sockets, cheeks = 0.9 - 0.1 * units["brow_lowerer"], 1.06 + 0.1 * units["cheek_raiser"]
    apple, nose, chin = 0.2 - 0.05 * units["cheek_raiser"], nose_base(people, units), mouth_bottom(people, units)
    return [
        *draw_roundness(people, units, scene),
        *[ellipse(side * people.eye_spread, people.eye_line - 0.05, 0.19, 0.11, sockets, soft=True) for side in SIDES],
        *[ellipse(side * 0.37, apple, 0.14, 0.1, cheeks, soft=True) for side in SIDES],
        ellipse(0.0, people.hairline + 0.15, 0.3, 0.08, 1.07, soft=True),
        draw_nose_shadow(people, units, scene),
        ellipse(0.0, nose + 0.04, people.nose_width, 0.045, 0.8, soft=True),
        ellipse(0.0, nose - 0.1, 0.045, 0.13, 1.13, soft=True),
        ellipse(0.0, chin + 0.03, 0.13, 0.04, 0.8, soft=True),
        ellipse(0.0, chin + 0.13, 0.12, 0.06, 1.06, soft=True),
    ]


def draw_roundness(people: People, units: Units, scene: Scene) -> list[Shape]:
    """Three nested heads, the smaller the lighter and the nearer to the light."""
    shapes = []
    for scale, shadow in ((1.0, 1.0), (0.9, 0.55), (0.74, -0.1)):
        x, y = head_outline(people, units, scale=scale)
        towards = 0.75 * (1 - scale)
        x, y = x + towards * scene.light_right, y + towards * scene.light_down
        shapes.append(Shape(x, y, 1 - shadow * scene.shadow, soft=True))
    return shapes


def draw_nose_shadow(people: People, units: Units, scene: Scene) -> Shape:
    nose, away = nose_base(people, units), -np.sign(scene.light_right) * people.nose_width
    x, y = np.hstack([0 * away, away, 0 * away]), np.hstack([people.eye_line - 0.1, nose, nose])
    return Shape(x, y, 0.76, soft=True)


def draw_forehead(people: People, units: Units) -> list[Shape]:
    """Lines above raised brows, and the furrows between knitted ones."""
    raised = units["inner_brow_raiser"] * (0.4 + 0.6 * units["outer_brow_raiser"])
    brow = people.eye_line - people.brow_gap - 0.07 * raised
    lines = [wrinkle(people, 0.3 * ACROSS, brow - gap - 0.02 * DOME, 0.8 * raised) for gap in (0.09, 0.17)]
    x, y = 0.055 - 0.02 * ALONG, brow + 0.02 + 0.16 * ALONG
    return lines + [wrinkle(people, side * x, y, 1.3 * units["brow_lowerer"]) for side in SIDES]


def draw_brow(people: People, units: Units, side: int) -> list[Shape]:
    out = (ACROSS + 1) / 2  # 0 at the inner end, 1 at the outer
    inner, outer = units["inner_brow_raiser"], units["outer_brow_raiser"]
    knit, nose = units["brow_lowerer"], units["nose_wrinkler"]
    raised = 0.12 * inner * (1 - out) ** 1.5 + 0.12 * outer * np.sin(np.pi * (0.2 + 0.6 * out))
    # Together with the inner brow raiser, the lowerer draws brows together but hardly down: the oblique brow of grief.
    lowered = (0.135 - 0.105 * out) * knit * (1 - 0.85 * inner).clip(0) + (0.09 - 0.07 * out) * nose
    arch = people.brow_arch * np.sin(np.pi * (0.1 + 0.8 * out)) - 0.02 * out**3
    x = people.eye_spread - 0.18 - 0.045 * knit + (0.37 + 0.03 * knit) * out
    y = people.eye_line - people.brow_gap - arch - raised + lowered + side * people.lopsided
    return [stroke(side * x, y, people.brow_weight * (1 - 0.7 * out**2) * np.minimum(1, 0.6 + 2 * out), people.brow)]


def draw_eye(people: People, units: Units, side: int) -> list[Shape]:
    cheek, tight, wide = units["cheek_raiser"], units["lid_tightener"], units["upper_lid_raiser"]
    upper, lower = lids(people, units, ACROSS)
    x = side * (people.eye_spread + people.eye_width * ACROSS)
    return [
        wrinkle(people, x, upper - 0.035 - 0.02 * DOME, 0.35 + 0.3 * wide),
        wrinkle(people, x, lower + 0.035 + 0.02 * DOME, 0.15 + 0.5 * cheek + 0.4 * tight),
        between(x, upper, lower, 0.45 * people.skin + 125),
        draw_disc(people, units, side, radius=0.07, tone=people.iris),
        draw_disc(people, units, side, radius=0.034, tone=0.2 * people.iris),
        draw_disc(people, units, side, radius=0.02, tone=0 * people.iris + 235, lift=0.03),
        stroke(x, lower, 0.014, 0.6 * people.skin),
        stroke(x, upper, 0.024 + 0.012 * DOME, 0.22 * people.skin),
    ]


def draw_disc(people: People, units: Units, side: int, *, radius: float, tone: Column, lift: float = 0.0) -> Shape:
    """An iris, a pupil, or (a little up and left) its glint: the part that the lids leave free."""
    x = side * people.eye_spread + people.gaze - lift + radius * np.cos(AROUND)
    y = people.eye_line - 0.012 - lift + 0.045 * units["eyes_down"] + radius * np.sin(AROUND)
    return Shape(x, y.clip(*lids(people, units, (side * x - people.eye_spread) / people.eye_width)), tone)


def lids(people: People, units: Units, at: Curve) -> tuple[Curve, Curve]:
    """y of the upper and the lower lid, from the inner corner (`at` -1) to the outer (1)."""
    wide, dome = units["upper_lid_raiser"], (1 - at**2).clip(0)
    closing = 0.5 * units["lid_tightener"] + 0.3 * units["cheek_raiser"] + 0.35 * units["nose_wrinkler"]
    above = people.eye_height * (1 + 0.8 * wide - 0.6 * closing - 0.5 * units["eyes_down"]).clip(0.2)
    below = people.eye_height * (0.8 + 0.15 * wide - closing).clip(0.15)
    middle = people.eye_line + at * (people.eye_slant + 0.025 * units["inner_brow_raiser"] * (1 - wide).clip(0))
    return middle - above * dome**0.7, middle + below * dome


def draw_crow_feet(people: People, units: Units, side: int) -> list[Shape]:
    x = side * (people.eye_spread + people.eye_width + 0.03 + 0.1 * ALONG)
    depth = 0.8 * units["cheek_raiser"] - 0.1
    return [wrinkle(people, x, people.eye_line + 0.01 + fall * ALONG, depth) for fall in (-0.06, 0.02, 0.09)]


def draw_fold(people: People, units: Units, side: int) -> list[Shape]:
    """The nasolabial fold, from the wing of the nose past the corner of the mouth."""
    smile, raised = units["lip_corner_puller"], np.maximum(units["upper_lip_raiser"], units["nose_wrinkler"])
    start, end = people.nose_width + 0.03, people.mouth_width + 0.07 + 0.05 * smile
    top, bottom = nose_base(people, units) - 0.06, people.mouth_line - 0.02 - 0.03 * smile
    x = start + (end - start) * (ALONG + 0.25 * (smile + raised) * ALONG * (1 - ALONG))
    return [wrinkle(people, side * x, top + (bottom - top) * ALONG**1.2, 0.1 + 0.3 * smile + 0.8 * raised)]


def draw_nose(people: People, units: Units) -> list[Shape]:
    base, wrinkled = nose_base(people, units), units["nose_wrinkler"]
    width = people.nose_width * (1 + 0.2 * wrinkled + 0.1 * units["lip_corner_puller"])
    arc = np.pi * (0.9 * ALONG - 0.4)
    tip = stroke(0.4 * width * ACROSS, base + 0.022 * DOME, 0.02, 0.6 * people.skin)
    wings = [(side * (width - 0.03 + 0.035 * np.cos(arc)), base - 0.02 + 0.05 * np.sin(arc)) for side in SIDES]
    bridge = people.eye_line - 0.03 * wrinkled + 0.06 * ALONG
    x, lines = 0.015 + 0.075 * ALONG, (bridge - 0.01, bridge + 0.07)
    return [
        *[wrinkle(people, side * x, y, wrinkled) for side in SIDES for y in lines],
        tip,
        *[stroke(x, y, 0.018, 0.6 * people.skin) for x, y in wings],
        *[ellipse(side * 0.5 * width, base, 0.27 * width, 0.02, 0.5 * people.skin) for side in SIDES],
    ]


def nose_base(people: People, units: Units) -> Column:
    return people.nose_line - 0.045 * units["nose_wrinkler"] - 0.015 * units["upper_lip_raiser"]


def draw_mouth(people: People, units: Units) -> list[Shape]:
    x, top, upper, lower, bottom = mouth_edges(people, units)
    bared = 0.2 + units["lip_corner_puller"] + units["upper_lip_raiser"] + units["lip_stretcher"]
    teeth = np.minimum(upper + 0.075 * bared * (1 - ACROSS**8), lower)
    return [
        between(x, top, bottom, people.lips),
        between(x, top, upper, 0.86 * people.lips),
        stroke(x, (upper + lower) / 2, 0.034 - 0.012 * DOME, 0.3 * people.skin),
        between(x, upper, lower, 0.18 * people.skin),
        between(x, upper, teeth, 0.4 * people.skin + 125),
    ]


def mouth_edges(people: People, units: Units) -> tuple[Curve, Curve, Curve, Curve, Curve]:
    """x, then y of the edges of the upper and the lower lip, from top to bottom."""
    smile, stretch, tight = units["lip_corner_puller"], units["lip_stretcher"], units["lip_tightener"]
    jaw, part, raised, chin = units["jaw_drop"], units["lips_part"], units["upper_lip_raiser"], units["chin_raiser"]
    half = people.mouth_width * (1 + 0.3 * smile + 0.25 * stretch - 0.18 * tight - 0.25 * jaw * (1 - smile).clip(0))
    corner = 0.1 * units["lip_corner_depressor"] + 0.03 * stretch - 0.13 * smile - people.mouth_curl
    middle = people.mouth_line - 0.02 * chin + 0.04 * smile + corner * ACROSS**2 + people.lopsided * ACROSS
    bulge = np.where(stretch + raised > jaw, 1 - ACROSS**4, DOME**0.7)  # a tense mouth is square, a slack one round
    lift = (0.065 * raised + 0.03 * units["nose_wrinkler"]) * (1 - ACROSS**4)
    drop = (0.055 + 0.05 * smile + 0.06 * units["lower_lip_depressor"]) * part + 0.2 * jaw
    lower = middle + drop * bulge - 0.3 * lift
    upper = np.minimum(middle - (0.02 * part + 0.04 * jaw) * bulge - lift * (0.5 + 0.5 * part.clip(0, 1)), lower)
    fullness = (1 - 0.7 * tight - 0.25 * stretch).clip(0.15)
    top = upper - people.upper_lip * fullness * DOME**0.6 * (1 - 0.3 * np.exp(-25 * ACROSS**2))
    return half * ACROSS, top, upper, lower, lower + people.lower_lip * (fullness + 0.25 * chin) * DOME**0.7


def mouth_bottom(people: People, units: Units) -> Column:
    *_, edge = mouth_edges(people, units)
    bottom: Column = edge.max(axis=1, keepdims=True)
    return bottom


def draw_chin(people: People, units: Units) -> list[Shape]:
    """The crease of a pushed-up chin, and the lines that run down from depressed corners of the mouth."""
    y = mouth_bottom(people, units) + 0.055 + 0.035 * ACROSS**2
    crease = wrinkle(people, 0.12 * ACROSS, y, 0.1 + 0.8 * units["chin_raiser"])
    x, y = people.mouth_width + 0.03 + 0.03 * ALONG, people.mouth_line + 0.06 + 0.12 * ALONG
    return [crease, *[wrinkle(people, side * x, y, 0.7 * units["lip_corner_depressor"]) for side in SIDES]]


def draw_glasses(people: People) -> list[Shape]:
    x, y = 0.23 * np.cos(AROUND), people.eye_line + 0.03 + 0.17 * np.sin(AROUND)
    bridge = stroke(0.08 * ACROSS, people.eye_line, 0.03, people.glasses)
    return [bridge, *[stroke(side * people.eye_spread + x, y, 0.03, people.glasses) for side in SIDES]]


def draw_hair(people: People) -> list[Shape]:
    """Hair before the head: a cap down to the hairline, and strands combed to it from the parting."""
    x, top = crown(people, ACROSS)
    cap = between(x, top, np.maximum(hairline(people, ACROSS), top), people.scalp)
    ends = np.linspace(-0.85, 0.85, len(STRANDS))
    return [cap, *[draw_strand(people, end, tone) for end, tone in zip(ends, STRANDS, strict=True)]]


def draw_strand(people: People, end: float, tone: float) -> Shape:
    end_at = np.full_like(people.parting, end)
    (start_x, start_y), (end_x, _) = crown(people, 0.45 * end_at + 0.5 * people.parting), crown(people, end_at)
    x = start_x + (end_x - start_x) * (1.5 * ALONG - 0.5 * ALONG**2)
    y = start_y + (hairline(people, end_at) - start_y) * (0.06 + 0.9 * ALONG**1.4)
    return stroke(x, y, 0.04 * np.sin(np.pi * (0.1 + 0.8 * ALONG)), tone * people.scalp)


def join(curves: list[Float[np.ndarray, "_ _"]], number: int) -> Float[np.ndarray, "n points"]:
    """Curves end to end, a row a face, also where all faces share one."""
    return np.hstack([np.broadcast_to(curve, (number, curve.shape[1])) for curve in curves])


def pose(x: Curve, y: Curve, people: People, scene: Scene) -> Outlines:
    """Turn, nod and tilt what was drawn on a frontal head, which bulges towards the viewer, most at the nose."""
    skull = (1 - (x / people.head_width) ** 2 - ((y - 0.08) / people.head_height) ** 2).clip(0) ** 0.5
    nose = np.exp(-((x / 0.12) ** 2) - ((y - people.nose_line + 0.05) / 0.15) ** 2)
    depth = 0.6 * skull + 0.16 * nose
    x, y = np.cos(scene.yaw) * x + np.sin(scene.yaw) * depth, y + np.sin(scene.nod) * depth
    right, down = np.cos(scene.tilt) * x - np.sin(scene.tilt) * y, np.sin(scene.tilt) * x + np.cos(scene.tilt) * y
    return np.stack([scene.scale * right + scene.right, scene.scale * down + scene.down], axis=2)


def paint(shapes: list[Shape], outlines: Outlines, background: Column) -> Pictures:
    """Paint each face: hard shapes supersampled, times the light that the soft ones leave."""
    number, sizes = len(outlines), np.array([shape.x.shape[1] for shape in shapes])
    zoom = np.repeat([1 if shape.soft else SUPERSAMPLING for shape in shapes], sizes)[:, None]
    points = ((outlines + 1) * zoom * (SIZE / 2)).reshape(number, -1)
    tones = [np.broadcast_to(shape.tone * (PLAIN if shape.soft else 1), (number, 1)) for shape in shapes]
    # Rounded down, so that a tone of, say, 0.7 × UNPAINTED stays below 0.
    greys = np.floor(np.hstack(tones)).clip(UNPAINTED, 255).astype(int)
    ends = np.cumsum(2 * sizes)
    parts = list(zip([shape.soft for shape in shapes], (ends - 2 * sizes).tolist(), ends.tolist(), strict=True))
    rows = zip(points, greys, background[:, 0], strict=True)
    return np.stack([paint_face(parts, row.tolist(), grey.tolist(), int(behind)) for row, grey, behind in rows])


def paint_face(
    parts: list[tuple[bool, int, int]], points: list[float], greys: list[int], background: int
) -> Float32[np.ndarray, "48 48"]:
    """Paint one face from its points; each part is a shape's softness and where its points start and end."""
    hard = Image.new("L", (SIZE * SUPERSAMPLING, SIZE * SUPERSAMPLING), background)
    soft = Image.new("L", (SIZE, SIZE), PLAIN)
    pens = ImageDraw.Draw(hard), ImageDraw.Draw(soft)
    for (is_soft, start, end), grey in zip(parts, greys, strict=True):
        if grey >= 0:
            pens[is_soft].polygon(points[start:end], fill=grey)
    light = np.asarray(soft.filter(ImageFilter.GaussianBlur(1.8)), np.float32) / PLAIN
    return np.asarray(hard.reduce(SUPERSAMPLING), np.float32) * light


def photograph(pictures: Pictures, scene: Scene, rng: np.random.Generator) -> Images:
    """Light that falls off across the picture, then a camera's contrast, brightness and grain."""
    across = np.linspace(-1, 1, SIZE, dtype=np.float32)
    lit = 1 + 0.15 * (scene.light_right[..., None] * across + scene.light_down[..., None] * across[:, None])
    grain = scene.grain[..., None] * rng.standard_normal(pictures.shape, dtype=np.float32)
    exposed = (pictures * lit - 128) * scene.contrast[..., None] + 128 + scene.brightness[..., None] + grain
    images: Images = exposed.clip(0, 255).round().astype(np.uint8)[..., None]
    return images
