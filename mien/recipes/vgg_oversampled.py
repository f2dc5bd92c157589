"""The deeper network, shown 8,000 disgusted faces instead of 436."""

from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Targeted oversampling: changed copies of disgusted faces, spread evenly over the originals, and weights recomputed.

    Run: mien train vgg_oversampled
    """
    return Recipe(
        name="vgg_oversampled",
        model="vgg",
        oversample="disgusted",
        stop_patience=15,
        plateau_patience=7,
        minimum_learning_rate=1e-6,
        epochs=80,
    )
