"""Choose one: a file a network, each with `build(*, classes) -> keras.Model` from 0..255 pixels to probabilities."""

from collections.abc import Callable

import keras

from mien.errors import RecipeError
from mien.models import baseline, compact

MODELS: dict[str, Callable[..., keras.Model]] = {"baseline": baseline.build, "compact": compact.build}


def build_network(name: str, *, classes: int = 7) -> keras.Model:
    """The network `name`, freshly initialised: float images (n, 48, 48, 1), 0..255, to probabilities (n, classes)."""
    if name not in MODELS:
        raise RecipeError(f"there is no model {name!r}; expected one of {', '.join(MODELS)}")
    return MODELS[name](classes=classes)
