"""A training step with and without the Jacobian penalty.

Four classifiers as tutorials write them (`_classifiers.py`), SGD with momentum, data on the device.
The peers take the same step from equal weights: PyTorch with the criterion's own lines, and
`jax.vjp` inside the loss, as one writes it by hand in the network's framework. With the same
probes loss and gradient are compared first. All use the threads that they take by default.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.extend.core import jaxpr_as_fun

import jacreg
from benchmarks._clock import in_turns
from benchmarks._comparison import Comparison, assert_equal, counted, peer, timed
from benchmarks.works._classifiers import CLASSES, Classifier, Fn, flax_cnn, lenet, mlp, strided
from benchmarks.works._dense_nets import temporary_mib
from jacreg._convolution import as_written
from train.allocator import settle_allocator

_BATCH = 64
_WEIGHT, _RATE, _MOMENTUM = 0.01, 1e-3, 0.9
_TOLERANCE = 1e-3  # float32, two derivatives
_KEY = jax.random.key(3)
# A network, and the largest ratios to PyTorch and to the recipe by hand that reach the aims.
_ROWS: tuple[tuple[Callable[[int], Classifier], float, float], ...] = (
    (flax_cnn, 0.7, 0.8),
    (lenet, 0.7, 0.7),
    (strided, 0.7, 0.6),
    (mlp, 0.5, 0.8),
)
_ONE = "training step with one projection"
_PLAIN = "training step without penalty"

Loss = Callable[[Any, Any, Any, Any], Any]


def compare() -> list[Comparison]:
    """Return the rows of each network."""
    settle_allocator()  # for all, as `python -m train` does
    return [row for build, *most in _ROWS for row in _compare(build(_BATCH), most[0], most[1])]


def _compare(net: Classifier, most_torch: float, most_by_hand: float) -> list[Comparison]:
    _, version = peer("torch")
    from benchmarks.works import _torch_step

    losses = {"plain": _plain(net.plain), "by hand": _by_hand(net.plain), "ours": _ours(net.ours)}
    their_plain = _torch_step.Step(net, 0.0, _RATE, _MOMENTUM)
    theirs = _torch_step.Step(net, _WEIGHT, _RATE, _MOMENTUM)
    agreed = {
        "by hand": _agreement(_gradient(losses["ours"], net), _gradient(losses["by hand"], net)),
        "theirs": _agreement(_gradient(losses["ours"], net), theirs.gradient(_probe())),
        "their plain": _agreement(_gradient(losses["plain"], net), their_plain.gradient(_probe())),
    }
    steps = {name: _Step(net, loss) for name, loss in losses.items()}
    calls = {**steps, "theirs": theirs, "their plain": their_plain}
    times = in_turns(calls, rounds=7, rest=0.3)
    setting, own = net.setting, "our step without penalty"
    by_hand = "jax.vjp inside the loss, by hand"
    mib = {name: temporary_mib(step.compiled) for name, step in steps.items()}
    return [
        timed(times, "ours", "theirs", work=_ONE, setting=setting, most=most_torch,
              peer=f"{version}, {theirs.name}", agreement=agreed["theirs"]),
        timed(times, "ours", "by hand", work=_ONE, setting=setting, most=most_by_hand,
              peer=by_hand, agreement=agreed["by hand"]),
        timed(times, "ours", "plain", work=_ONE, setting=setting, most=2.1, peer=own,
              floor=f"{_flops(net):.2f} by FLOPs"),
        timed(times, "plain", "their plain", work=_PLAIN, setting=setting, most=1.0,
              peer=version, agreement=agreed["their plain"]),
        counted(mib["ours"], mib["by hand"], "MiB", work="its temporary memory", setting=setting,
                most=1.0, peer=by_hand, agreement=agreed["by hand"]),
    ]  # fmt: skip


def _plain(function: Callable[[Any], Fn]) -> Loss:
    """The task's loss alone; no jacreg in it."""

    def loss(params: Any, xs: Any, labels: Any, key: Any) -> Any:
        return _task(function(params)(xs), labels)

    return loss


def _ours(function: Callable[[Any], Fn]) -> Loss:
    def loss(params: Any, xs: Any, labels: Any, key: Any) -> Any:
        lin = jacreg.linearize(function(params), xs)
        penalty = jacreg.losses.jacobian_penalty(lin, key=key)
        return _task(lin.value, labels) + _WEIGHT * jnp.mean(penalty)

    return loss


def _by_hand(function: Callable[[Any], Fn]) -> Loss:
    """The recipe in a few lines of JAX, with the same probes."""

    def loss(params: Any, xs: Any, labels: Any, key: Any) -> Any:
        logits, pull = jax.vjp(function(params), xs)
        normal = jax.random.normal(key, logits.shape)
        unit = normal / jnp.linalg.norm(normal, axis=1, keepdims=True)
        (rows,) = pull(unit)
        penalty = CLASSES * jnp.sum(rows**2) / (2 * len(xs))
        return _task(logits, labels) + _WEIGHT * penalty

    return loss


def _task(logits: Any, labels: Any) -> Any:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


class _Step:
    """A training step, compiled once, that goes on from its own state, always on the same rows."""

    def __init__(self, net: Classifier, loss: Loss) -> None:
        optimizer = optax.sgd(_RATE, momentum=_MOMENTUM)

        def step(params: Any, state: Any, key: Any, xs: Any, labels: Any) -> Any:
            key, probe_key = jax.random.split(key)
            gradient = jax.grad(loss)(params, xs, labels, probe_key)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, key

        # A copy: what is donated must not be another step's start.
        params = jax.tree.map(jnp.copy, net.params)
        self.state = (params, optimizer.init(params), jax.random.key(0))
        self.batch = net.xs, net.labels
        jitted = jax.jit(step, donate_argnums=(0, 1))
        self.compiled = jitted.lower(*self.state, *self.batch).compile()

    def __call__(self) -> Any:
        """Take one step."""
        self.state = self.compiled(*self.state, *self.batch)
        return self.state


def _gradient(loss: Loss, net: Classifier) -> tuple[float, list[np.ndarray]]:
    """The loss and its gradient at the start, in PyTorch's axes."""
    value, gradient = jax.jit(jax.value_and_grad(loss))(net.params, net.xs, net.labels, _KEY)
    return float(value), net.layers(gradient)


def _probe() -> np.ndarray:
    """The probes of that gradient, of length 1 an example, `[N, K]`."""
    normal = np.asarray(jax.random.normal(_KEY, (_BATCH, CLASSES)))
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _agreement(
    ours: tuple[float, list[np.ndarray]], theirs: tuple[float, list[np.ndarray]]
) -> float:
    """The largest relative difference of the losses and of each layer's gradient."""
    pairs = zip((ours[0], *ours[1]), (theirs[0], *theirs[1]), strict=True)
    return max(assert_equal(*pair, _TOLERANCE) for pair in pairs)


def _flops(net: Classifier) -> float:
    """XLA's count of the gradient by hand over the plain one, convolutions as defined."""
    given = (net.params, net.xs, net.labels, _KEY)

    def count(loss: Loss) -> float:
        program = as_written(jax.make_jaxpr(jax.grad(loss))(*given))
        compiled = jax.jit(jaxpr_as_fun(program)).lower(*jax.tree.leaves(given)).compile()
        return float((compiled.cost_analysis() or {})["flops"])

    return count(_by_hand(net.plain)) / count(_plain(net.plain))
