"""Recipe: every choice that can move a score, as one frozen dataclass, and how a person changes one."""

import dataclasses
import json
import math
import typing
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from mien.errors import RecipeError
from mien.models import MODELS, PRETRAINED


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every choice that can move a score. Paths, devices and log levels do not belong here."""

    name: str
    model: str = "baseline"  # a file in models/
    weights: Literal["none", "imagenet"] = "none"  # what a pretrained model starts from
    seed: int = 42  # of the initial weights, the order of images and every random layer
    split_seed: int = 42  # of the split alone: networks of one split may be averaged, whatever their seeds
    validation_share: float = 0.2  # of the training images

    class_weights: bool = True  # weigh each class by 1 / its count among the images that training sees
    oversample: str = ""  # a class to add changed copies of; none where empty
    oversample_to: int = 8000  # images of that class at the full size of train/; scaled to the split

    flip: bool = True  # mirror half of the images
    rotation: float = 0.1  # largest turn each way, as a share of a full turn: 0.1 is 36°
    zoom: float = 0.1  # largest change of size each way, as a share
    shift: float = 0.05  # largest move each way, as a share of the side
    one_warp: bool = False  # turn, zoom and move in one interpolation; three blur a small picture
    erasing: float = 0.0  # share of images with a random rectangle painted over
    mixup: float = 0.0  # α of Beta(α, α): how far two images and their targets are mixed; 0 is not at all
    stronger_classes: str = ""  # classes to change further, such as fearful,sad; none where empty
    stronger_factor: float = 1.5  # how many times as far

    # votes: of FER+ annotators, an extra annotation; teacher: what networks say of images that they did not learn;
    # teacher_views: what they say of each image as it is changed for the student
    targets: Literal["labels", "votes", "teacher", "teacher_views"] = "labels"
    teacher_share: float = 0.7  # how much of each target is the teachers' prediction; the rest is the label
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: float = 2.0
    focal_alpha: float = 0.25
    label_smoothing: float = 0.0

    curriculum: Literal["none", "pilot", "votes"] = "none"  # easy first: by a short pilot's loss, or FER+ agreement
    curriculum_start: float = 0.3  # share of the images, the easiest, that the first epoch draws from
    curriculum_epochs: int = 10  # epochs until all images take part

    frozen_epochs: int = 0  # epochs that train a pretrained model's head alone, before all of it is fine-tuned
    fine_tuning_rate: float = 1e-4  # learning rate from then on
    optimizer: Literal["adam", "sgd", "muon"] = "adam"  # sgd: with Nesterov's momentum of 0.9; muon: for kernels
    learning_rate: float = 1e-3  # the highest
    weight_decay: float = 0.0  # of kernels, decoupled: each step takes learning_rate × this share of them away
    schedule: Literal["plateau", "cosine"] = "plateau"  # cosine: falls to 0 over all epochs, and none is spared
    warmup_epochs: int = 0  # epochs over which a cosine schedule first rises
    batch_size: int = 64
    epochs: int = 50  # at most
    plateau_patience: int = 5  # epochs without a lower validation loss before the learning rate falls
    plateau_factor: float = 0.5  # it falls to this share
    minimum_learning_rate: float = 1e-5
    stop_patience: int = 10  # epochs without a lower validation loss before training stops
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = "float32"  # float16 is for GPUs

    def __post_init__(self) -> None:
        for field in (
            "batch_size",
            "epochs",
            "plateau_patience",
            "stop_patience",
            "oversample_to",
            "curriculum_epochs",
        ):
            self.check(field, getattr(self, field) >= 1, "a whole number from 1")
        for field in ("validation_share", "plateau_factor", "focal_alpha", "curriculum_start", "teacher_share"):
            self.check(field, 0 < getattr(self, field) < 1, "a share between 0 and 1")
        for field in ("zoom", "shift", "rotation", "erasing", "label_smoothing"):
            self.check(field, 0 <= getattr(self, field) < 1, "a share from 0 to below 1")
        for field in ("learning_rate", "minimum_learning_rate", "fine_tuning_rate", "stronger_factor"):
            self.check(field, 0 < getattr(self, field) < math.inf, "a number above 0")
        for field in ("seed", "frozen_epochs", "focal_gamma", "mixup", "weight_decay", "warmup_epochs", "split_seed"):
            self.check(field, 0 <= getattr(self, field) < 2**31, "a number from 0")
        if self.model not in PRETRAINED:
            backbones = f"with {self.model}, or a model of {', '.join(PRETRAINED)}"
            self.check("weights", self.weights == "none", f"none {backbones}")
            self.check("frozen_epochs", self.frozen_epochs == 0, f"0 {backbones}")
        if self.targets == "teacher_views":  # what teachers say would weigh otherwise than what labels do
            self.check("class_weights", not self.class_weights, "false where teachers look on")
            self.check("loss", self.loss == "cross_entropy", "cross_entropy where teachers look on")
        self.check("stronger_classes", all(self.stronger_names), "names of classes with commas between")
        if self.stronger_classes and (strongest := max(self.rotation, self.zoom, self.shift)):
            self.check("stronger_factor", self.stronger_factor * strongest < 1, f"less than {1 / strongest:g}")
        if self.frozen_epochs:
            self.check("schedule", self.schedule == "plateau", "plateau where frozen_epochs part the training in two")
        self.check("model", self.model in MODELS, f"one of {', '.join(MODELS)}")

    def check(self, field: str, holds: bool, expected: str) -> None:
        if not holds:
            raise RecipeError(f"{field} is {getattr(self, field)!r}; expected {expected}")

    @property
    def stronger_names(self) -> tuple[str, ...]:
        """The classes to change further."""
        return tuple(self.stronger_classes.split(",")) if self.stronger_classes else ()

    def override(self, *assignments: str) -> "Recipe":
        """The recipe with "field=value" texts applied, as a person types them."""
        changes = {}
        for assignment in assignments:
            field, equals, text = assignment.partition("=")
            if not equals:
                raise RecipeError(f"{assignment!r} is no choice; expected field=value, such as epochs=20")
            changes[field] = parse(field, text)
        return type(self).from_dict({**self.to_dict(), **changes})

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def check_classes(self, classes: tuple[str, ...]) -> None:
        """Raise RecipeError where a class is named that the images do not have."""
        named = {"oversample": [self.oversample] if self.oversample else [], "stronger_classes": self.stronger_names}
        for field, names in named.items():
            for name in names:
                if name not in classes:
                    raise RecipeError(
                        f"{field} names {name!r}; expected a class of these images ({', '.join(classes)}): "
                        f"give {field}=CLASS, or {field}= for none"
                    )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """The recipe that `to_dict` gave. Raises RecipeError for a field that there is not, or a value of another type."""
        for field, value in values.items():
            check_field(field)
            check_type(field, value)
        return cls(**values)


def field_types() -> dict[str, Any]:
    return typing.get_type_hints(Recipe)


def check_field(field: str) -> None:
    if field not in field_types():
        raise RecipeError(f"there is no choice {field!r}; expected one of {', '.join(sorted(field_types()))}")


def parse(field: str, text: str) -> Any:
    """`text` as a value of `field`: JSON where it is JSON (3, 1e-3, true), else the text itself."""
    check_field(field)
    if field_types()[field] is str:
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = {"True": True, "False": False}.get(text, text)
    if field_types()[field] is float and type(value) is int:
        value = float(value)
    return value


def check_type(field: str, value: Any) -> None:
    kind = field_types()[field]
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise RecipeError(f"{field} is {value!r}; expected one of {', '.join(get_args(kind))}")
    # bool is an int to Python, but epochs=true is a slip.
    elif type(value) is not kind:
        raise RecipeError(f"{field} is {value!r}; expected {EXPECTED[kind]}")


EXPECTED = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
