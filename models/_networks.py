"""Which networks there are, in which frameworks. Frameworks are imported when one is built."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from jacreg._nearest import unknown

from ._autoencoder import AutoencoderSpec
from ._differential import DifferentialMLPSpec
from ._equilibrium import EquilibriumSpec, MDEQSpec
from ._flow_fields import FlowConvSpec, FlowSpec
from ._lenet import LeNetSpec
from ._lipschitz_cnn import LipschitzCNNSpec
from ._mlp import MLPSpec
from ._resnet import ResNetSpec
from ._score import ScoreConvSpec, ScoreMLPSpec, ScoreUNetSpec

FRAMEWORKS = {"nnx": "nnx", "linen": "linen", "equinox": "eqx"}


@dataclasses.dataclass(frozen=True)
class Network:
    """A name of `models.build`.

    Attributes:
      spec: the class of its specification.
      class_name: the name of its class, the same in each framework.
      frameworks: those that have it.
      package: where the class is; the framework's own package where None.
      defaults: options in which it differs from the specification's defaults.
    """

    spec: type
    class_name: str
    frameworks: tuple[str, ...]
    package: str | None = None
    defaults: tuple[tuple[str, Any], ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """The options that `models.build` takes for this network, beside the layout."""
        return tuple(f.name for f in dataclasses.fields(self.spec) if f.name != "layout")


NETWORKS = {
    "lenet": Network(LeNetSpec, "LeNet", ("nnx", "linen", "equinox")),
    "lipschitz_cnn": Network(LipschitzCNNSpec, "LipschitzCNN", ("nnx", "equinox")),
    "mlp": Network(MLPSpec, "MLP", ("nnx", "linen", "equinox")),
    "resnet_small": Network(ResNetSpec, "ResNet", ("nnx", "equinox")),
    "resnet18": Network(
        ResNetSpec,
        "ResNet",
        ("nnx", "equinox"),
        defaults=(("widths", (64, 128, 256, 512)), ("blocks", (2, 2, 2, 2))),
    ),
    "differential_mlp": Network(DifferentialMLPSpec, "DifferentialMLP", ("nnx",)),
    "autoencoder": Network(AutoencoderSpec, "Autoencoder", ("nnx", "equinox")),
    "score_conv": Network(ScoreConvSpec, "ScoreConv", ("nnx", "equinox")),
    "score_unet": Network(ScoreUNetSpec, "ScoreUNet", ("nnx", "equinox")),
    "score_mlp": Network(ScoreMLPSpec, "ScoreMLP", ("nnx", "equinox")),
    "flow": Network(FlowSpec, "FlowField", ("equinox",)),
    "flow_conv": Network(FlowConvSpec, "FlowConvField", ("equinox",)),
    "equilibrium": Network(EquilibriumSpec, "Equilibrium", ("equinox",), "equilibrium"),
    "mdeq": Network(MDEQSpec, "MDEQ", ("equinox",), "equilibrium"),
}


def network_class(network: Network, framework: str) -> type:
    """The class of a network in one framework; imports what it needs."""
    package = network.package or FRAMEWORKS[framework]
    return getattr(importlib.import_module(f".{package}", __package__), network.class_name)


def check_framework(framework: str, known: tuple[str, ...] | None = None) -> None:
    """Raises ValueError for an unknown framework, or one that has no such network."""
    if framework not in FRAMEWORKS:
        raise unknown("framework", framework, FRAMEWORKS)
    if known is not None and framework not in known:
        raise ValueError(
            f"This network exists in {', '.join(known)}, not in {framework}: set framework to one "
            "of these."
        )
