"""The same training step in PyTorch, with the criterion of Hoffman et al. 2019.

The criterion is the official package where it is installed (`from jacobian import JacobianReg`,
facebookresearch/jacobian_regularizer), else the few lines of the paper's algorithm 1 below.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.works._classifiers import Classifier


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
        net: the network, with its weights and batch.
        weight: of the penalty, 0 for none.
        rate, momentum: of SGD.
        compiled: the network's passes by `torch.compile`.
    """

    def __init__(
        self, net: Classifier, weight: float, rate: float, momentum: float, compiled: bool = False
    ) -> None:
        self.network = _network(nn.Sequential(*net.modules(nn)), net.layers(net.params))
        xs = np.array(net.xs)
        if xs.ndim == 4 and not net.channels_first:
            xs = xs.transpose(0, 3, 1, 2).copy()
        self.xs = torch.from_numpy(xs)
        self.labels = torch.from_numpy(np.array(net.labels).astype(np.int64))
        self.weight = weight
        self.criterion, self.name = criterion()
        self.apply: Callable[..., Any] = torch.compile(self.network) if compiled else self.network
        self.optimizer = torch.optim.SGD(self.network.parameters(), rate, momentum=momentum)

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

    def gradient(self, probe: np.ndarray) -> tuple[float, list[np.ndarray]]:
        """Return the objective and its gradient with these probes, `[N, K]` of length 1."""
        drawn = self.criterion._random_vector
        self.criterion._random_vector = lambda C, B: torch.from_numpy(probe.copy())
        try:
            self.optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
        finally:
            self.criterion._random_vector = drawn
        grads = [each.grad for each in self.network.parameters() if each.grad is not None]
        found = [grad.numpy().copy() for grad in grads]
        self.optimizer.zero_grad()
        return float(loss.detach()), found


def _network(network: nn.Module, weights: Sequence[np.ndarray]) -> nn.Module:
    with torch.no_grad():
        for parameter, weight in zip(network.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(np.array(weight)))
    return network
