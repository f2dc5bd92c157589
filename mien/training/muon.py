"""Muon for networks of convolutions."""

from typing import Any

import keras


class Muon(keras.optimizers.Muon):
    """Keras' Muon (Jordan et al. 2024), which takes matrices alone, for kernels of convolutions.

    A kernel (height, width, channels in, channels out) is a matrix (height × width × channels in, channels out) to it. All
    else is left to AdamW, dense kernels included: here they are the last layer's.
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) != 4

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        self.assign_add(m, gradient + m * (self.momentum - 1))
        ahead = gradient + self.momentum * m if self.nesterov else m
        matrix = keras.ops.reshape(ahead, (-1, ahead.shape[-1]))
        update = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        self.assign_sub(variable, keras.ops.reshape(update, variable.shape))
