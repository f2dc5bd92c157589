"""A network in, what one face costs it out."""

import math

import keras
from keras import layers


def describe_costs(network: keras.Model) -> dict[str, int]:
    """Parameters and multiply-adds of one image, as plain JSON values."""
    return {"parameters": network.count_params(), "multiply_adds": count_multiply_adds(network)}


def count_multiply_adds(network: keras.Model) -> int:
    """Multiply-adds of one image's way through convolutions, dense layers and attention.

    Normalisation, activations and pooling are left out, as is custom. Each layer counts once: none may be shared.
    """
    return sum(layer_multiply_adds(layer) for layer in network.layers)


def layer_multiply_adds(layer: keras.Layer) -> int:
    if isinstance(layer, keras.Model):
        return count_multiply_adds(layer)
    if isinstance(layer, layers.MultiHeadAttention):
        return attention_multiply_adds(layer)
    kernels = sum(math.prod(weight.shape) for weight in layer.weights if weight.name.endswith("kernel"))
    # Whatever the layer, each number of a kernel is used once at each place of what comes out.
    return kernels * math.prod(layer.output.shape[1:-1]) if kernels else 0


def attention_multiply_adds(layer: layers.MultiHeadAttention) -> int:
    """Four projections of every token, and two products between every two tokens; self-attention only."""
    tokens, width = layer.output.shape[1:]
    inner = layer.num_heads * layer.key_dim
    total: int = tokens * 4 * width * inner + 2 * tokens**2 * inner
    return total
