"""The deeper network with label smoothing on top of focal loss."""

from dataclasses import replace

from mien.recipes import vgg
from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Label smoothing 0.1 and focal loss together.

    Run: mien train smooth_focal
    """
    return replace(vgg.recipe(), name="smooth_focal", loss="focal", label_smoothing=0.1)
