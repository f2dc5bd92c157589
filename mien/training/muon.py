"""Muon for networks of convolutions."""

from typing import Any

import keras


class Muon(keras.optimizers.Muon):
    """Keras' Muon (Jordan et al. 2024), which takes matrices alone, for kernels of convolutions.

    A kernel (height, width, channels in, channels out) is a matrix (height × width × channels in, channels out) to it. All
    else is left to AdamW, dense kernels included: here they are the last layer's.

    iterated_in: the type in which matrices are multiplied; bfloat16 is enough (Jordan et al. 2024), and faster where the
    machine has it.
    """

    def __init__(self, *, iterated_in: str = "float32", **choices: Any):
        super().__init__(**choices)
        self.iterated_in = iterated_in

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) != 4

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        matrix = keras.ops.cast(as_matrix(x), self.iterated_in)
        even = keras.ops.cast(super().zeropower_via_newtonschulz5(matrix, steps), x.dtype)
        return keras.ops.reshape(even, x.shape)

    def lr_adjust(self, x: Any) -> Any:
        return keras.ops.reshape(super().lr_adjust(as_matrix(x)), x.shape)


def as_matrix(kernel: Any) -> Any:
    return keras.ops.reshape(kernel, (-1, kernel.shape[-1]))
