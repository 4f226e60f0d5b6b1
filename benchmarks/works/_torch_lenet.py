"""The same training step in PyTorch, with the criterion of Hoffman et al. 2019.

The criterion is the official package where it is installed (`from jacobian import JacobianReg`,
facebookresearch/jacobian_regularizer), else the few lines of the paper's algorithm 1 below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_LAYERS = ("conv_1", "conv_2", "dense_1", "dense_2", "dense_3")


class LeNet(nn.Module):
    """LeNet' with equal weights: images `[N, 1, 28, 28]` to logits."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.dense_1, self.dense_2 = nn.Linear(400, 120), nn.Linear(120, 84)
        self.dense_3 = nn.Linear(84, 10)
        with torch.no_grad():
            for name, value in as_torch(weights).items():
                layer, kind = name.split(".")
                getattr(getattr(self, layer), kind).copy_(torch.from_numpy(value.copy()))

    def forward(self, xs: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        hs = functional.max_pool2d(torch.tanh(self.conv_1(xs)), 2)
        hs = functional.max_pool2d(torch.tanh(self.conv_2(hs)), 2).flatten(1)
        return self.dense_3(torch.tanh(self.dense_2(torch.tanh(self.dense_1(hs)))))


def as_torch(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Bring our arrays (weights or gradients) to PyTorch's axes, which flatten channels first."""
    found = {}
    for layer in _LAYERS:
        kernel = arrays[f"{layer}.kernel"]
        if kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
        else:
            if layer == "dense_1":
                kernel = kernel.reshape(5, 5, 16, -1).transpose(2, 0, 1, 3).reshape(400, -1)
            kernel = kernel.T
        found[f"{layer}.weight"] = np.ascontiguousarray(kernel)
        found[f"{layer}.bias"] = np.ascontiguousarray(arrays[f"{layer}.bias"])
    return found


class _Projection(nn.Module):
    """Algorithm 1 of the paper with one projection: C / 2 mean norm(v^T J)^2, v on the sphere."""

    def forward(self, xs: torch.Tensor, ys: torch.Tensor) -> torch.Tensor:
        """Return the criterion for a batch and its outputs `[N, C]`."""
        count, classes = ys.shape
        probes = self._random_vector(classes, count)
        (products,) = torch.autograd.grad(ys, xs, probes, create_graph=True)
        return classes * products.square().sum() / (2 * count)

    def _random_vector(self, C: int, B: int) -> torch.Tensor:
        return functional.normalize(torch.randn(B, C), dim=1)


def criterion() -> tuple[nn.Module, str]:
    """Return the criterion and what it is."""
    try:
        from jacobian import JacobianReg  # pyright: ignore[reportMissingImports]
    except ImportError:
        return _Projection(), "own lines of the criterion"
    return JacobianReg(n=1), "official criterion"


class Step:
    """A training step that goes on from its own weights, always on the same rows.

    Args:
        weights: ours, by name.
        xs, labels: our batch, `[N, 28, 28, 1]`.
        weight: of the penalty, 0 for none.
        compiled: the network's passes by `torch.compile`.
    """

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        xs: np.ndarray,
        labels: np.ndarray,
        weight: float,
        compiled: bool = False,
    ) -> None:
        self.network = LeNet(weights)
        self.xs = torch.from_numpy(np.array(xs).transpose(0, 3, 1, 2).copy())
        self.labels = torch.from_numpy(np.array(labels).astype(np.int64))
        self.weight = weight
        self.criterion, self.name = criterion()
        self.apply: Callable[..., Any] = torch.compile(self.network) if compiled else self.network
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.1, momentum=0.9)

    def loss(self) -> torch.Tensor:
        """Return the objective."""
        xs = self.xs.detach().requires_grad_(self.weight > 0)
        ys = self.apply(xs)
        loss = functional.cross_entropy(ys, self.labels)
        return loss + self.weight * self.criterion(xs, ys) if self.weight else loss

    def __call__(self) -> None:
        """Take one step."""
        self.optimizer.zero_grad()
        self.loss().backward()
        self.optimizer.step()

    def gradient(self, probe: np.ndarray) -> tuple[float, dict[str, np.ndarray]]:
        """Return the objective and its gradient with these probes, `[N, K]` of length 1."""
        drawn = self.criterion._random_vector
        self.criterion._random_vector = lambda C, B: torch.from_numpy(probe.copy())
        try:
            self.optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
        finally:
            self.criterion._random_vector = drawn
        grads = {name: each.grad for name, each in self.network.named_parameters()}
        self.optimizer.zero_grad()
        return float(loss.detach()), {
            name: grad.numpy().copy() for name, grad in grads.items() if grad is not None
        }
