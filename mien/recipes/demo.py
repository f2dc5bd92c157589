"""The demo: a network an eighth of the baseline's cost, and an epoch count for about a minute on two CPU cores."""

from mien.training.recipe import Recipe


def recipe() -> Recipe:
    """See the whole line work, from pictures to report.

    Run: mien train demo
    """
    return Recipe(
        name="demo",
        model="compact",
        class_weights=False,
        rotation=0.03,
        one_warp=True,
        learning_rate=3e-3,
        schedule="cosine",
        warmup_epochs=1,
        epochs=4,
    )
