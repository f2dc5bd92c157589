"""Networks that learnt to see on ImageNet's photographs, adapted to 48×48 grey faces: ResNet50 and EfficientNetV2-B0.

To fine-tune, `freeze` the backbone and train the head alone, then `unfreeze` it and go on with a far lower learning
rate. Compile after each of the two: only then does Keras read what is to be trained.
"""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any, Literal

import keras
from keras import layers

from mien.emotions import SIZE
from mien.errors import RecipeError
from mien.models.layers import classify

Weights = Literal["imagenet", "none"]

ENLARGED = 2 * SIZE  # the backbones halve a picture five times: 48 pixels would leave them 2 × 2 places, 96 leave 3 × 3
BGR_MEANS = (103.939, 116.779, 123.68)  # of ImageNet's pixels, as in keras.applications.resnet50.preprocess_input


def build_resnet50(*, classes: int = 7, weights: Weights = "imagenet") -> keras.Model:
    """23.6 M parameters, 708 M multiply-adds a face. Source: He et al. (2016)."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = in_colour(image)
    x = layers.Rescaling(1.0, offset=[-mean for mean in BGR_MEANS])(x)
    x = load_backbone(keras.applications.ResNet50, weights=weights)(x)
    return keras.Model(image, classify(x, classes=classes, dropout=0.3), name="resnet50")


def build_efficientnet(*, classes: int = 7, weights: Weights = "imagenet") -> keras.Model:
    """5.9 M parameters, 133 M multiply-adds a face. Source: Tan and Le (2021), EfficientNetV2."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = in_colour(image)
    x = load_backbone(keras.applications.EfficientNetV2B0, weights=weights)(x)  # it normalises by itself
    return keras.Model(image, classify(x, classes=classes, dropout=0.3), name="efficientnet")


def in_colour(image: Any) -> Any:
    """Grey (n, 48, 48, 1) to what a backbone takes, (n, 96, 96, 3): larger, and three times the same."""
    x = layers.UpSampling2D(ENLARGED // SIZE, interpolation="bilinear")(image)
    return layers.Concatenate()([x, x, x])


def load_backbone(application: Callable[..., keras.Model], *, weights: Weights) -> keras.Model:
    """`application` without its head; its ImageNet weights are downloaded by Keras once, then read from its cache."""
    shape = (ENLARGED, ENLARGED, 3)
    if weights == "none":
        return application(include_top=False, weights=None, input_shape=shape)
    try:
        with redirect_stdout(sys.stderr):  # where Keras would show the download, results are printed
            return application(include_top=False, weights="imagenet", input_shape=shape)
    except Exception as error:  # Keras raises nothing narrower when a download fails
        raise RecipeError(
            f"the ImageNet weights are not cached and cannot be downloaded ({error}); "
            "connect to the network for this first use, or train from scratch with weights=none frozen_epochs=0"
        ) from error


def freeze(network: keras.Model) -> None:
    """Keep the backbone of a pretrained network as it is: what is trained next is the head."""
    backbone_of(network).trainable = False


def unfreeze(network: keras.Model) -> None:
    """Let the backbone learn again, but for its batch normalisation, which keeps ImageNet's statistics and scales.

    Statistics of small batches of faces would undo what the backbone knows before it has learnt anything.
    """
    backbone = backbone_of(network)
    backbone.trainable = True
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def backbone_of(network: keras.Model) -> keras.Model:
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            return layer
    raise RecipeError(f"the model {network.name!r} has no pretrained backbone; expected resnet50 or efficientnet")
