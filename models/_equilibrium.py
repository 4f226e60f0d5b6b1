"""What the equilibrium models are."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

from ._checks import check_image_spec, check_images, positive_integer, positive_integers
from .conv import CHANNELS_LAST, ConvLayout

if TYPE_CHECKING:
    from jacreg.equilibrium import EquilibriumSolver

Solver = Annotated[str, ("anderson", "iteration")]


@dataclasses.dataclass(frozen=True)
class EquilibriumSpec:
    """The synthetic model of Bai, Koltun and Kolter 2021: f(z; x) = W2^T relu(W1 z + U x + b).

    Attributes:
      layout: not used; vectors have one order.
      input_shape: (features,) of x; 1 in the paper.
      outputs: the size of z; 1 in the paper.
      hidden: the number of relu units; 50 in the paper.
      solver: "anderson" or "iteration".
      tolerance, max_steps, memory, backward_tolerance, backward_steps: of the forward and the
        backward solve, as `EquilibriumSolver` has them.
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (1,)
    outputs: int = 1
    hidden: int = 50
    solver: Solver = "anderson"
    tolerance: float = 1e-4
    max_steps: int = 50
    memory: int = 5
    backward_tolerance: float = 1e-5
    backward_steps: int = 40

    def __post_init__(self):
        shape = positive_integers("input_shape", self.input_shape, length=1)
        object.__setattr__(self, "input_shape", shape)
        positive_integer("hidden", self.hidden)
        positive_integer("outputs", self.outputs)
        self.equilibrium_solver()

    def equilibrium_solver(self) -> EquilibriumSolver:
        """The solver of the forward and backward pass."""
        return make_solver(self)


@dataclasses.dataclass(frozen=True)
class MDEQSpec:
    """A small multiscale equilibrium classifier (Bai, Koltun and Kolter 2020, 2021).

    A stem of 3x3 convolutions of stride 2, each normalised, with relu between them, injects the
    image at the finest scale. The cell
    has a block a scale (3x3 convolution, group normalisation, relu, 3x3 convolution), joined by
    strided convolutions down and by 1x1 convolutions and repetition up, then relu and
    normalisation. Unlike the papers' it has no identity path, which an equilibrium does not
    need and which slows its solvers. The head pools every scale.

    Attributes:
      layout: the order of the axes of images, kernels and activations.
      input_shape: (spatial sizes, channels); sizes divisible by 2^(stem_depth + scales - 1).
      num_classes: the number of logits.
      widths: channels at each scale, finest first.
      groups: of the group normalisation; divides every width.
      stem_depth: convolutions of the stem; each halves the image.
      solver: "anderson" or "iteration".
      tolerance, max_steps, memory, backward_tolerance, backward_steps: of the forward and the
        backward solve, as `EquilibriumSolver` has them.
    """

    layout: ConvLayout = CHANNELS_LAST
    input_shape: tuple[int, ...] = (32, 32, 3)
    num_classes: int = 10
    widths: tuple[int, ...] = (16, 32)
    groups: int = 4
    stem_depth: int = 1
    solver: Solver = "anderson"
    tolerance: float = 1e-2
    max_steps: int = 30
    memory: int = 5
    backward_tolerance: float = 1e-3
    backward_steps: int = 20

    def __post_init__(self):
        check_image_spec(self, each="scale")
        positive_integer("num_classes", self.num_classes)
        positive_integer("groups", self.groups)
        positive_integer("stem_depth", self.stem_depth)
        if any(width % self.groups for width in self.widths):
            raise ValueError(f"groups = {self.groups} must divide every width of {self.widths}.")
        factor = 2 ** (self.stem_depth + len(self.widths) - 1)
        if any(size % factor for size in self.input_shape[:-1]):
            raise ValueError(
                f"An MDEQ with {len(self.widths)} scales and {self.stem_depth} stem convolutions "
                f"needs image sizes divisible by {factor}, got input_shape {self.input_shape}."
            )
        self.equilibrium_solver()

    def equilibrium_solver(self) -> EquilibriumSolver:
        """The solver of the forward and backward pass."""
        return make_solver(self)

    def check(self, x) -> None:
        """Raises TypeError or ValueError where the image is not what the network takes."""
        check_images("The MDEQ", x, self.layout, self.input_shape, batched=False)


def make_solver(spec) -> EquilibriumSolver:
    """The solver that a specification's options name. Raises: ValueError."""
    from jacreg.equilibrium import EquilibriumSolver

    return EquilibriumSolver(
        method=spec.solver,
        tolerance=spec.tolerance,
        max_steps=spec.max_steps,
        memory=spec.memory,
        backward_tolerance=spec.backward_tolerance,
        backward_steps=spec.backward_steps,
    )
