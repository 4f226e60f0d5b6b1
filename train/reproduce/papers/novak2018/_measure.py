"""What a family of trained networks is measured by: norm, gap, linear regions, each test point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from train.data import load
from train.reproduce import Asked
from train.reproduce.papers.novak2018._networks import Recipe, fit, measured
from train.sections import Data

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int

# An ellipse through three test points, in this many steps; and how many of them.
_STEPS, _PATHS = 512, 30
_BINS = 10


def train_family(
    asked: Asked,
    *,
    train_examples: int,
    test_examples: int,
    widths: list[int],
    networks: int,
    labels: Literal["true", "random"],
    batch: int | None,
    activation: str,
    augment: bool = False,
    weight: float = 0.0,
    steps: int = 4000,
) -> dict[str, Any]:
    """Train networks that differ in the gain of their initial kernels, 0.5 to 3, and measure them.

    The same seed has the same split, random labels and initial networks in every setting.
    `norm` is the mean of norm(J)_F over test points, J of the class probabilities in the pixels
    (in [0, 1]); `logit_norm` that of the logits; `gap` training minus test accuracy, the latter
    by the true labels; `transitions` how often a hidden relu turns on or off along an ellipse
    through three test points of different classes.
    """
    (xs, ys), (test_xs, test_ys), classes = split(train_examples, test_examples, asked.seed)
    if labels == "random":
        ys = np.random.default_rng([asked.seed, 1]).integers(0, classes, len(ys))
    views = shifted(xs) if augment else xs[None]
    flat = views.reshape(*views.shape[:2], -1)
    recipe = Recipe(
        (flat.shape[-1], *widths, classes),
        activation,
        batch,
        0.0 if asked.broken else weight,
        steps=steps,
    )
    keys = jax.random.split(jax.random.key(asked.seed), networks)
    gains = jnp.geomspace(0.5, 3.0, networks)
    layers, taken = fit(keys, gains, jnp.asarray(flat), jnp.asarray(ys), recipe=recipe)

    flat_test = jnp.asarray(test_xs.reshape(len(test_xs), -1))
    paths = closed_paths(flat_test, test_ys, asked.seed) if activation == "relu" else None
    train = (jnp.asarray(flat[0]), jnp.asarray(ys))
    found = measured(layers, train, (flat_test, jnp.asarray(test_ys)), paths, activation=activation)
    found = {name: np.asarray(value) for name, value in found.items()}
    wrong, at = ~found.pop("right"), found.pop("norms")
    found["gap"] = found["train_accuracy"] - found["test_accuracy"]
    found["steps"], found["gain"] = np.asarray(taken), np.asarray(gains)
    found["error_by_norm"] = np.stack(
        [error_by_norm(*each) for each in zip(wrong, at, strict=True)]
    )
    means = {
        "mean_norm": np.exp(np.log(found["norm"]).mean()),
        "mean_logit_norm": np.exp(np.log(found["logit_norm"]).mean()),
        "mean_gap": found["gap"].mean(),
        "mean_test_accuracy": found["test_accuracy"].mean(),
        "least_train_accuracy": found["train_accuracy"].min(),
        "auc": np.mean([_auc(*each) for each in zip(wrong, at, strict=True)]),
    }
    if paths is not None:
        means["mean_transitions"] = np.exp(np.log(found["transitions"]).mean())
    return {**found, **means}


def closed_paths(xs: Float[Array, "N D"], ys: Int[np.ndarray, " N"], seed: int) -> Any:
    """Return ellipses `[P, T, D]`, each through three points of different classes."""
    rng = np.random.default_rng([seed, 2])
    corners: list[list[int]] = []
    while len(corners) < _PATHS:
        three = rng.choice(len(ys), 3, replace=False)
        if len(set(ys[three].tolist())) == 3:
            corners.append(three.tolist())
    # These shares add up to 1 and are 1, 0, 0 at each corner in turn.
    angle = np.linspace(0, 2 * np.pi, _STEPS, endpoint=False)[:, None]
    shares = (1 + 2 * np.cos(angle - np.arange(3) * 2 * np.pi / 3)) / 3
    return jnp.einsum("tk,pkd->ptd", jnp.asarray(shares, xs.dtype), xs[jnp.asarray(corners)])


def split(train: int, test: int, seed: int) -> Any:
    """Return `(xs, ys)` of two parts of 5000 MNIST digits, and the number of classes."""
    whole = load(Data(name="mnist-5k"))
    xs = np.concatenate([whole.train.inputs, whole.test.inputs]).astype(np.float32) / 255
    ys = np.concatenate([np.asarray(whole.train.targets), np.asarray(whole.test.targets)])
    order = np.random.default_rng([seed, 0]).permutation(len(xs))
    parts = order[:train], order[train : train + test]
    return *((xs[part], ys[part]) for part in parts), len(whole.classes)


def shifted(xs: Float[np.ndarray, "N H W C"]) -> Float[np.ndarray, "9 N H W C"]:
    """Return images as they are, then shifted by one pixel in each of eight directions."""
    height, width = xs.shape[1:3]
    padded = np.pad(xs, ((0, 0), (1, 1), (1, 1), (0, 0)))
    moves = sorted(((i, j) for i in range(3) for j in range(3)), key=lambda move: move != (1, 1))
    return np.stack([padded[:, i : i + height, j : j + width] for i, j in moves])


def error_by_norm(wrong: np.ndarray, norms: np.ndarray) -> Float[np.ndarray, " bins"]:
    """Return the error in each tenth of the points, ordered by their norm."""
    return np.asarray([part.mean() for part in np.array_split(wrong[np.argsort(norms)], _BINS)])


def _auc(wrong: np.ndarray, norms: np.ndarray) -> float:
    """Return how often a point that is wrong has a larger norm than one that is right."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(wrong, norms)) if 0 < wrong.mean() < 1 else float("nan")
