"""The shortest road to a fair network: as the flagship, without what pays only over many epochs."""

from dataclasses import replace

from mien.recipes import base
from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """Four epochs of the flagship's network.

    Test accuracy 61.7 %, macro-F1 0.55 (one seed, 6 minutes on one CPU core).

    Run: mien train sprint, or as measured: mien train sprint precision=mixed_bfloat16
    """
    return replace(
        base.recipe(),
        name="sprint",
        erasing=0.0,
        mixup=0.0,
        average=0.99,
        warmup_epochs=1,
        epochs=4,
    )
