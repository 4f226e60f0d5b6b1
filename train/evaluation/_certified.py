"""Certified accuracy: how many predictions provably do not change within an l2 radius."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

import jacreg
from train.data import Examples
from train.errors import CertificateError
from train.evaluation._attacks import pgd_l2
from train.evaluation._classifier import Classifier, first, right_under

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

    from train.batches import Batches
    from train.sections import Evaluation


def certified(
    model: Classifier,
    weights: PyTree,
    lipschitz: float,
    examples: Examples,
    config: Evaluation,
    key: Array,
    batches: Batches,
) -> dict[str, float]:
    """Return the certified accuracy at each radius of `config.certified`, and that under attack.

    `certified_accuracy_R` counts all examples; `accuracy_pgd_l2_R` the first `attack_examples`,
    under projected gradient ascent within the same radius.

    Args:
        model: the classifier; radii are in the units of `model.pixels`.
        lipschitz: a bound of `pixels -> logits` in the l2 norm.

    Raises:
        CertificateError: an attack within the radius changed a prediction that was certified.
    """

    @jax.jit
    def radii(weights: PyTree, raw: Array, labels: Array) -> Array:
        logits = model.of_pixels(weights, model.pixels(raw)).astype(jnp.float32)
        return jacreg.losses.certified_radius(logits, labels, lipschitz=lipschitz)

    holds = right_under(model, pgd_l2, config.pgd_steps)
    found: dict[str, float] = {"lipschitz_bound": float(lipschitz)}
    for number, radius in enumerate(config.certified):

        def sure(inputs: Any, labels: Any, _: int) -> dict[str, Array]:
            return {"ok": radii(weights, inputs, labels) > radius}  # noqa: B023

        def attack(inputs: Any, labels: Any, batch: int) -> dict[str, Array]:
            base = jax.random.fold_in(jax.random.fold_in(key, number), batch)  # noqa: B023
            kept = holds(weights, inputs, labels, radius, base)  # noqa: B023
            certain = sure(inputs, labels, batch)["ok"]
            return {"ok": kept, "broken": certain & ~kept}

        sure_name, kept_name = f"certified_accuracy_{radius:g}", f"accuracy_pgd_l2_{radius:g}"
        found[sure_name] = batches.mean(sure, examples, sure_name)["ok"]
        attacked = first(examples, config.attack_examples)
        under = batches.mean(attack, attacked, kept_name)
        found[kept_name] = under["ok"]
        if under["broken"] > 0:
            raise CertificateError(
                f"evaluation.certified: at radius {radius:g} an attack changed "
                f"{round(under['broken'] * len(attacked))} of {len(attacked)} predictions that "
                f"were certified with a Lipschitz bound of {float(lipschitz):g}. The bound is "
                "wrong, or the network computes in a precision that it does not count."
            )
    return found
