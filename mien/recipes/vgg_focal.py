"""The deeper network with focal loss."""

from dataclasses import replace

from mien.recipes import vgg
from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Focal loss, γ 2 and α 0.25: what is easy counts less.

    Run: mien train vgg_focal
    """
    return replace(vgg.recipe(), name="vgg_focal", loss="focal")
