"""Noise on the activations against its explicit form: in trained networks and in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jacreg
from train.reproduce import Asked, dense

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

_ACTIVATION = "elu"
# Tests at these; the last are small enough for the second order, large enough for float32.
SIGMAS = (1.0, 0.3, 0.1, 0.03, 0.01)


def compare_losses(
    asked: Asked,
    *,
    task: Literal["regression", "classification"],
    noise: float,
    width: int,
    epochs: int,
    batch: int,
    rate: float,
    pairs: int,
) -> dict[str, Any]:
    """Train with noise of this scale (0: none), then add noise of many scales to what was learned.

    `ratio` is (noisy loss - clean loss) / R at each of `SIGMAS`, noise in pairs e, -e, so that
    odd orders cancel; `ratio_error` its standard error over pairs. `second_order` is the exact
    term of order sigma^2, by the loss's Laplacian in the noise, over R: what the ratio must
    tend to. `terms` are the layers' parts of R, `pulls` how strongly R acts on each kernel:
    norm(W) norm(dR/dW) / (2 R), the same for any scale of the layer.
    """
    losses, loss_name = _LOSSES[task], "mse" if task == "regression" else "cross_entropy"
    noise = 0.0 if asked.broken else noise
    layers, xs, ys = trained(
        seed=asked.seed, task=task, noise=noise, width=width, epochs=epochs, batch=batch, rate=rate
    )
    sizes = dense.sizes(layers)
    test_key = jax.random.split(jax.random.key(asked.seed), 3)[2]

    @jax.jit
    def measured(layers: Any, xs: Array, ys: Array) -> dict[str, Array]:
        def regularizer(layers: Any) -> Float[Array, " layers"]:
            regularize = jacreg.losses.gaussian_noise_regularizer
            lins = tails(layers, xs)
            return jnp.stack([jnp.mean(regularize([lin], 1.0, loss=loss_name)) for lin in lins])

        def of_noise(flat: Array) -> Float[Array, " N"]:
            edges = np.cumsum(sizes[:-1])[:-1].tolist()
            return losses(_noisy(layers, xs, jnp.split(flat, edges, axis=1)), ys)

        terms, slopes = regularizer(layers), jax.grad(lambda each: regularizer(each).sum())(layers)
        noises = jnp.zeros((len(xs), sum(sizes[:-1])))
        laplacian = jacreg.laplacian(jacreg.linearize(of_noise, noises))
        kernels = jnp.stack([jnp.linalg.norm(kernel) for kernel, _ in layers])
        return {
            "terms": terms / terms.sum(),
            "regularizer": terms.sum(),
            "pulls": kernels * jnp.stack([jnp.linalg.norm(each) for each, _ in slopes]),
            "second_order": jnp.mean(laplacian) / 2 / terms.sum(),
            "loss": jnp.mean(losses(_noisy(layers, xs, None), ys)),
        }

    @jax.jit
    def excess(layers: Any, key: Array, sigma: Array) -> Array:
        clean = losses(_noisy(layers, xs, None), ys)

        def one(key: Array) -> Array:
            added = draw(key, sizes, len(xs), sigma)
            both = [losses(_noisy(layers, xs, [s * e for e in added]), ys) for s in (1, -1)]
            return jnp.mean((both[0] - clean) + (both[1] - clean)) / 2

        return jax.lax.map(one, jax.random.split(key, pairs))

    found = {name: np.asarray(value) for name, value in measured(layers, xs, ys).items()}
    found["pulls"] = found["pulls"] / (2 * found["regularizer"])
    ratios = np.stack(
        [excess(layers, test_key, sigma) / (sigma**2 * found["regularizer"]) for sigma in SIGMAS]
    )
    found["ratio"] = ratios.mean(1)
    found["ratio_error"] = ratios.std(1, ddof=1) / np.sqrt(pairs)
    found["ratio_smallest"] = found["ratio"][-1]
    return found


def trained(
    *, seed: int, task: str, noise: float, width: int, epochs: int, batch: int, rate: float
) -> tuple[dense.Layers, Float[Array, "N D"], Array]:
    """Return a network trained under noise of this scale, and the rows that it was trained on."""
    xs, ys = _data(task)
    order = np.random.default_rng(seed).permutation(len(xs))
    kept = order[: 8 * len(xs) // 10]
    xs, ys = jnp.asarray(xs[kept]), jnp.asarray(ys[kept])
    losses = _LOSSES[task]
    # The third one is for the noise of the measurement.
    init_key, train_key, _ = jax.random.split(jax.random.key(seed), 3)
    sizes = (xs.shape[1], width, width, 1 if task == "regression" else 10)

    def loss(layers: Any, key: Array, _done: Array) -> Array:
        row_key, noise_key = jax.random.split(key)
        rows = jax.random.choice(row_key, len(xs), (min(batch, len(xs)),), replace=False)
        added = draw(noise_key, sizes, len(rows), noise) if noise else None
        return jnp.mean(losses(_noisy(layers, xs[rows], added), ys[rows]))

    steps = epochs * max(1, round(len(xs) / batch))
    layers = dense.minimised(loss, dense.initial(init_key, sizes), train_key, steps, rate)
    return layers, xs, ys


def learn_frequencies(
    asked: Asked,
    *,
    method: Literal["clean", "noise", "explicit"],
    noise: float,
    frequencies: list[int],
    points: int,
    width: int,
    steps: int,
    rate: float,
) -> dict[str, Any]:
    """Fit a sum of sinusoids on [-1, 1], with noise, with R in its place, or with neither.

    `learned` is each sinusoid's share in the fit, 1 where it is learned: the coefficient of the
    projection on it. `low` and `high` are means over the lower and upper third of them.
    `layer_high` is the share of the same upper third in the power of the functions x -> h_k(x)
    of each hidden layer.
    """
    rng = np.random.default_rng(asked.seed)
    grid = np.linspace(-1, 1, points, endpoint=False)
    turns = np.asarray(frequencies)
    waves = np.sin(np.pi * np.outer(grid, turns) + rng.uniform(0, 2 * np.pi, len(turns)))
    xs = jnp.asarray(grid[:, None], jnp.float32)
    ys = jnp.asarray(waves.sum(1, keepdims=True), jnp.float32)
    init_key, bias_key, train_key = jax.random.split(jax.random.key(asked.seed), 3)
    sizes = (1, width, width, 1)
    start = dense.initial(init_key, sizes)
    # Kinks all over the interval, and steep ones: else the clean network learns no high frequency.
    reach = 2.0 * max(frequencies)
    biases = jax.random.uniform(bias_key, (width,), minval=-reach, maxval=reach)
    start[0] = (reach * start[0][0], biases)
    method = "clean" if asked.broken else method

    def loss(layers: Any, key: Array, _done: Array) -> Array:
        added = draw(key, sizes, points, noise) if method == "noise" else None
        found = _squared(_noisy(layers, xs, added), ys)
        if method == "explicit":
            lins = tails(layers, xs)
            found += jacreg.losses.gaussian_noise_regularizer(lins, noise, loss="mse")
        return jnp.mean(found)

    layers = dense.minimised(loss, start, train_key, steps, rate)
    fit = np.asarray(_noisy(layers, xs, None))[:, 0]
    learned = 2 * fit @ waves / points
    third = len(turns) // 3
    return {
        "learned": learned,
        "low": learned[:third].mean(),
        "high": learned[-third:].mean(),
        "layer_high": np.asarray(
            [
                _share(np.asarray(h), turns[-third:])
                for h in dense.hidden(layers, xs, _ACTIVATION)[1:]
            ]
        ),
        "error": np.mean((fit - waves.sum(1)) ** 2),
        "grid": grid,
        "fit": fit,
        "target": waves.sum(1),
    }


def _share(functions: Float[np.ndarray, "points units"], cycles: Int[np.ndarray, " band"]) -> float:
    """Return the share of functions' power on a grid that is at these cycles over the interval.

    Each function's best straight line is taken off first, for a unit far from its kink is one and
    has no frequency. Then a Hann window: what is not periodic has no jump at the ends.
    """
    count = len(functions)
    lines = np.stack([np.ones(count), np.arange(count)], 1)
    bent = functions - lines @ np.linalg.lstsq(lines, functions, rcond=None)[0]
    window = np.hanning(count + 1)[:-1, None]
    power = (np.abs(np.fft.rfft(window * bent, axis=0)) ** 2).sum(1)
    return float(power[cycles].sum() / power.sum())


def tails(layers: Any, xs: Array) -> list[Any]:
    """Return the rest of the network linearised at the input and at every hidden layer."""
    hs = dense.hidden(layers, xs, _ACTIVATION)
    return [
        jacreg.linearize(dense.rest(layers, number, _ACTIVATION), h) for number, h in enumerate(hs)
    ]


def draw(key: Array, sizes: Any, rows: int, scale: Any) -> list[Array]:
    """Return noise for the input and every hidden layer, not for the output."""
    keys = jax.random.split(key, len(sizes) - 1)
    return [
        scale * jax.random.normal(each, (rows, size))
        for each, size in zip(keys, sizes[:-1], strict=True)
    ]


def _noisy(layers: Any, xs: Array, added: list[Array] | None) -> Array:
    """Return the output under noise on each layer's input."""
    kernel, bias = layers[-1]
    return dense.hidden(layers, xs, _ACTIVATION, added)[-1] @ kernel + bias


def _squared(outputs: Array, ys: Array) -> Float[Array, " N"]:
    return 0.5 * jnp.sum((outputs - ys) ** 2, 1)


def _cross_entropy(outputs: Array, ys: Array) -> Float[Array, " N"]:
    return optax.softmax_cross_entropy_with_integer_labels(outputs, ys)


_LOSSES = {"regression": _squared, "classification": _cross_entropy}


def _data(task: str) -> tuple[np.ndarray, np.ndarray]:
    """Return scikit-learn's diabetes, standardised, or its digits, in [0, 1]."""
    from sklearn import datasets

    if task == "classification":
        xs, ys = datasets.load_digits(return_X_y=True)
        return (np.asarray(xs) / 16).astype(np.float32), np.asarray(ys)
    xs, ys = (np.asarray(each) for each in datasets.load_diabetes(return_X_y=True))
    xs, ys = ((each - each.mean(0)) / each.std(0) for each in (xs, ys))
    return xs.astype(np.float32), ys.astype(np.float32)[:, None]
