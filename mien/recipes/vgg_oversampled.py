"""The deeper network, shown 8,000 disgusted faces instead of 436."""

from dataclasses import replace

from mien.recipes import vgg
from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Targeted oversampling: changed copies of disgusted faces, spread evenly over the originals, and weights recomputed.

    Run: mien train vgg_oversampled
    """
    return replace(vgg.recipe(), name="vgg_oversampled", oversample="disgusted")
