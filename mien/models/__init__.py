"""Choose one: a file a network, each with `build(*, classes) -> keras.Model` from 0..255 pixels to probabilities."""

from collections.abc import Callable

import keras

from mien.errors import RecipeError
from mien.models import baseline, compact, pretrained, residual, transformer, vgg
from mien.models.pretrained import Weights

MODELS: dict[str, Callable[..., keras.Model]] = {
    "baseline": baseline.build,
    "compact": compact.build,
    "compact_deep": compact.build_deep,
    "vgg": vgg.build,
    "residual": residual.build,
    "residual_wide": residual.build_wide,
    "residual_fine": residual.build_fine,
    "transformer": transformer.build,
    "resnet50": pretrained.build_resnet50,
    "efficientnet": pretrained.build_efficientnet,
}
PRETRAINED = ("resnet50", "efficientnet")  # the names whose build also takes `weights`


def build_network(name: str, *, classes: int = 7, weights: Weights = "none", precision: str = "float32") -> keras.Model:
    """The network `name`: float images (n, 48, 48, 1), 0..255, to probabilities (n, classes), float32.

    Freshly initialised, or with `weights="imagenet"` for one of PRETRAINED. precision: a dtype policy of Keras, what the
    layers before the last compute in.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return choose(name, classes=classes, weights=weights)
    finally:
        keras.config.set_dtype_policy(before)


def choose(name: str, *, classes: int, weights: Weights) -> keras.Model:
    if name not in MODELS:
        raise RecipeError(f"there is no model {name!r}; expected one of {', '.join(MODELS)}")
    if name in PRETRAINED:
        return MODELS[name](classes=classes, weights=weights)
    if weights != "none":
        raise RecipeError(
            f"{name} has no {weights} weights; expected weights=none with it, or a model of {', '.join(PRETRAINED)}"
        )
    return MODELS[name](classes=classes)
