"""ResNet50 from ImageNet, its head first, then all of it."""

from dataclasses import replace

from mien.recipes import vgg
from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Transfer from ImageNet. Its weights are Keras' own download; weights=none frozen_epochs=0 trains from scratch.

    Run: mien train resnet50
    """
    return replace(vgg.recipe(), name="resnet50", model="resnet50", weights="imagenet", frozen_epochs=5)
