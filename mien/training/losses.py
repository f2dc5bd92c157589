"""A recipe's loss choices in, one of Keras' own losses out."""

import keras


def build_loss(name: str, *, focal_gamma: float, focal_alpha: float, label_smoothing: float) -> keras.losses.Loss:
    """Cross-entropy, or focal loss (Lin et al. 2017), between targets and probabilities, both float (n, classes).

    focal_gamma: how much less an image that is already right counts; 0 is cross-entropy times focal_alpha.
    label_smoothing: the share of each target that is spread over all classes (Szegedy et al. 2016).
    """
    if name == "focal":
        return keras.losses.CategoricalFocalCrossentropy(
            alpha=focal_alpha, gamma=focal_gamma, label_smoothing=label_smoothing
        )
    return keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing)
