"""What a differential network is."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from jacreg._nearest import unknown

from ._checks import positive_integer, positive_integers
from .conv import CHANNELS_LAST, ConvLayout

# Those whose derivative `jacreg`'s differential layers carry along.
ACTIVATIONS = ("relu", "softplus", "tanh", "cos", "identity")
INITS = ("lecun", "glorot")


@dataclasses.dataclass(frozen=True)
class DifferentialMLPSpec:
    """A network that returns (y, dy/dx), after Lutter, Ritter and Peters 2019.

    Attributes:
      layout: not used; vectors have one order.
      input_shape: (features,).
      outputs: the length of y.
      hidden: widths of the hidden layers.
      activation: "relu", "softplus", "tanh", "cos" or "identity"; only smooth ones give smooth
        Jacobians.
      beta: the sharpness of softplus.
      init: "lecun" (biases 0), or "glorot" as the official code has it: kernels of the hidden
        layers from N(0, 4 / (in + out)), of the last from N(0, 2 / (in + out)), biases 0.1.
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (1,)
    outputs: int = 1
    hidden: tuple[int, ...] = (64, 64)
    activation: Annotated[str, ACTIVATIONS] = "softplus"
    beta: float = 1.0
    init: Annotated[str, INITS] = "lecun"

    def __post_init__(self):
        shape = positive_integers("input_shape", self.input_shape, length=1)
        object.__setattr__(self, "input_shape", shape)
        object.__setattr__(self, "hidden", positive_integers("hidden", self.hidden))
        positive_integer("outputs", self.outputs)
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.init not in INITS:
            raise unknown("init", self.init, INITS)
        if not 0 < self.beta < float("inf"):
            raise ValueError(f"beta must be finite and above 0, got {self.beta}.")
