"""Epochs in, a live bar on a terminal out; elsewhere one plain line an epoch."""

import time
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class ShowProgress(keras.callbacks.Callback):
    """Shows the epoch under way with loss, images a second and time left, and a line for each finished epoch.

    Under a curriculum the line begins with the share of images, the easiest, that the epoch drew from.
    """

    def __init__(self, console: Console, *, epochs: int, images: int):
        super().__init__()
        self.console = console
        self.epochs = epochs
        self.images = images
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self.bar.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.began = time.monotonic()
        self.task = self.bar.add_task(f"epoch {epoch + 1}/{self.epochs}", total=self.params["steps"], figures="")

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        done = (batch + 1) / self.params["steps"]
        speed = done * self.images / (time.monotonic() - self.began)
        self.bar.update(
            self.task, completed=batch + 1, figures=f"loss {(logs or {})['loss']:.3f}  {speed:.0f} images/s"
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.bar.remove_task(self.task)
        figures = logs or {}
        easiest = f"easiest {figures['pace']:.0%}  " if "pace" in figures else ""
        self.console.print(
            f"epoch {epoch + 1:>3}/{self.epochs}  {easiest}"
            f"train loss {figures['loss']:.3f} accuracy {figures['accuracy']:.3f}  "
            f"validation loss {figures['val_loss']:.3f} accuracy {figures['val_accuracy']:.3f}  "
            f"{time.monotonic() - self.began:.0f} s",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.stop()

    def stop(self) -> None:
        """Give the terminal back; Keras does not call `on_train_end` where a training breaks off."""
        self.bar.stop()
