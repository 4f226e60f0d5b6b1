"""Autoencoders of the contractive family: pre-training by reconstruction, then fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jacreg
from train import evaluation
from train.corruptions import CORRUPTIONS
from train.errors import ConfigError
from train.expect import integer
from train.methods import Resolver
from train.named import Choice, Named
from train.networks import build_model
from train.objective import Pass, penalised
from train.own import keyed
from train.penalties import DenseEncoder, Sources
from train.problem import Phase, Problem
from train.step import INIT_PURPOSE, purpose_key
from train.tasks._autoencoder_geometry import make_geometry
from train.tasks._scaling import scaling
from train.terms import make_terms

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from train.data import Dataset
    from train.problem import Setting

# A unit within this share of its range from one of its ends counts as saturated; the paper does
# not say its bound. Other activations have no ends.
_SATURATED = 0.05
_RANGES = {"sigmoid": (0, 1), "tanh": (-1, 1)}


def autoencoder(
    setting: Setting,
    dataset: Dataset,
    *,
    pretrain_steps: Annotated[int | None, integer(least=0)] = None,
    reconstruction: Literal["cross_entropy", "squared_error"] = "cross_entropy",
    corruption: Annotated[Named, Choice(CORRUPTIONS)] = Named("none"),
    geometry_examples: Annotated[int, integer(least=0)] = 0,
) -> Problem:
    """Reconstruction with penalties on the encoder, then classification from its hidden units.

    The first `pretrain_steps` (all of them where left out) lower the reconstruction loss, a
    sum over the inputs, plus the penalties; the others fine-tune encoder and classifier by
    cross-entropy alone (Rifai et al. 2011). Encoder norm and saturation are measured
    between the two, and on so many test inputs the `geometry` of its contraction.

    Raises:
        ConfigError: the network is no autoencoder, the data has no classes to fine-tune on, or
            pixels leave [0, 1] under cross-entropy.
    """
    steps = setting.training.steps
    first_steps = steps if pretrain_steps is None else pretrain_steps
    _check(setting, dataset, first_steps, reconstruction)
    key = purpose_key(setting.seed, INIT_PURPOSE)
    model = build_model(setting.model, dataset, max(1, len(dataset.classes)), key)
    module = model.merge(model.params, model.state)
    activation = module.spec.activation
    pixels, normalize = scaling(setting.data, dataset, -1)

    def vectors(raw: Any) -> Float[Array, "N D"]:
        values = normalize(pixels(raw))
        return jnp.reshape(values, (values.shape[0], -1))

    corrupt = CORRUPTIONS[corruption.name](**corruption.options)

    def losses(outputs: Array, xs: Array) -> Float[Array, " N"]:
        if reconstruction == "cross_entropy":
            return jnp.sum(optax.sigmoid_binary_cross_entropy(outputs, xs), -1)
        return jnp.sum((outputs - xs) ** 2, -1)

    def pretrain(
        params: Any, state: Any, xs: Any, targets: Any, key: Array, needs: frozenset[str]
    ) -> Pass:
        module = model.merge(params, state)
        encode = model.batched(module.encode)
        hidden = lin = kernels = dense = None
        if "lin" in needs:
            lin = jacreg.linearize(encode, xs)
            # The clean pass serves the penalty; without corruption the reconstruction too.
            hidden = lin.value if corruption.name == "none" else None
        if "kernels" in needs:
            kernels = module.kernels()
        if "dense" in needs:
            clean = encode(xs)
            dense = DenseEncoder(clean, module.kernels()[0], activation)
            hidden = clean if corruption.name == "none" else None
        if hidden is None:
            hidden = encode(corrupt(xs, key))
        outputs = model.batched(module.decode)(hidden)
        return Pass(losses(outputs, xs), state, Sources(lin, kernels=kernels, dense=dense))

    def finetune(
        params: Any, state: Any, xs: Any, labels: Any, key: Array, needs: frozenset[str]
    ) -> Pass:
        logits = model.batched(model.merge(params, state).classify)(xs)
        return Pass(optax.softmax_cross_entropy_with_integer_labels(logits, labels), state)

    # The closed form knows these.
    one_layer = len(module.spec.hidden) == 1 and activation in ("sigmoid", "tanh", "softplus")

    def rows(count: int) -> tuple[Any]:
        return (vectors(dataset.train.inputs[:count]),)

    resolve = Resolver(model.batched(module.encode), rows)
    terms = make_terms(
        setting.penalty,
        max(1, first_steps),
        offers=("lin", "kernels", *(["dense"] if one_layer else [])),
        resolve=resolve,
    )
    pretraining = penalised(pretrain, terms)
    idle = {f"penalty/{term.label}": jnp.float32(0) for term in terms}
    finetuning = _with_metrics(penalised(finetune, []), idle)
    measure_encoder = _make_encoder_measure(setting, dataset, model, vectors, losses, one_layer)
    clean = evaluation.make_clean(
        evaluation.Classifier(
            lambda weights, xs: model.batched(model.merge(*weights).classify)(xs),
            vectors,
            lambda xs: xs,
        )
    )
    finetuned = first_steps < steps

    def evaluate(params: Any, state: Any, final: bool) -> dict[str, float]:
        found = measure_encoder(params, state, final)
        if finetuned:
            found |= setting.batches.mean(
                lambda inputs, labels, _: clean((params, state), inputs, labels),
                dataset.test,
                "accuracy",
            )
        return {f"test/{name}": value for name, value in found.items()}

    seen = evaluation.first(dataset.test, max(1, geometry_examples)).inputs
    geometry = make_geometry(
        lambda weights: model.batched(model.merge(*weights).encode), vectors(seen)
    )

    def after_pretraining(params: Any, state: Any) -> dict[str, float]:
        found = measure_encoder(params, state, True)
        if geometry_examples:
            found |= geometry((params, state))
        return {f"pretrain/{name}": value for name, value in found.items()}

    targets = dataset.train.targets
    examples = {"inputs": dataset.train.inputs}
    if targets is not None:
        examples["targets"] = np.asarray(targets)
    return Problem(
        params=model.params,
        state=model.state,
        examples=examples,
        prepare=lambda rows: (vectors(rows["inputs"]), rows.get("targets")),
        objective=finetuning if finetuned else pretraining,
        earlier=(Phase(first_steps, pretraining, after_pretraining),)
        if finetuned and first_steps
        else (),
        evaluate=evaluate,
        choices=tuple(resolve.chosen),
        notes={"pretrain_steps": first_steps, "saturated_within": _SATURATED},
    )


def _check(setting: Setting, dataset: Dataset, first_steps: int, reconstruction: str) -> None:
    if setting.model.name != "autoencoder":
        raise ConfigError(
            f'{keyed(setting.model.name, "got ")}, expected "autoencoder" for this task.'
        )
    if first_steps > setting.training.steps:
        raise ConfigError(
            f"task.pretrain_steps: got {first_steps}, expected at most training.steps = "
            f"{setting.training.steps}."
        )
    if first_steps < setting.training.steps and not dataset.classes:
        raise ConfigError(
            f"task.pretrain_steps: got {first_steps} of {setting.training.steps} steps, but "
            f"{dataset.name} has no class labels to fine-tune on; leave it out."
        )
    weighted = [str(i) for i, penalty in enumerate(setting.penalty) if penalty.weight]
    if first_steps == 0 and weighted:
        raise ConfigError(
            "task.pretrain_steps: got 0, but the penalties act in pre-training alone; expected at "
            f"least 1, or penalty.{weighted[0]}.weight=0."
        )
    if isinstance(dataset.train.targets, dict):
        raise ConfigError(f"data.name: {dataset.name} is a regression data set; no autoencoder.")
    if reconstruction != "cross_entropy":
        return
    if np.any(np.asarray(setting.data.mean) != 0) or np.any(np.asarray(setting.data.std) != 1):
        raise ConfigError(
            "data.mean, data.std: cross-entropy reconstructs values in [0, 1], expected mean 0 "
            'and std 1; or set task.reconstruction = "squared_error".'
        )
    if not dataset.is_image:
        inputs = dataset.train.inputs
        if inputs.min() < 0 or inputs.max() > 1:
            raise ConfigError(
                f'task.reconstruction: got "cross_entropy", but {dataset.name} has values in '
                f'[{inputs.min():g}, {inputs.max():g}]; expected "squared_error".'
            )


def _with_metrics(objective: Callable[..., Any], further: dict[str, Array]) -> Callable[..., Any]:
    """Let an objective report these metrics too, so that all phases have the same."""

    def reporting(*arguments: Any) -> Any:
        loss, outcome = objective(*arguments)
        return loss, outcome._replace(metrics={**further, **outcome.metrics})

    return reporting


def _make_encoder_measure(
    setting: Setting, dataset: Dataset, model: Any, vectors: Any, losses: Any, one_layer: bool
) -> Callable[[Any, Any, bool], dict[str, float]]:
    """Return `(params, state, final) -> metrics` of encoder and reconstruction."""
    settings = setting.evaluation

    @jax.jit
    def reconstruction(weights: Any, inputs: Any) -> dict[str, Array]:
        module, xs = model.merge(*weights), vectors(inputs)
        hidden = model.batched(module.encode)(xs)
        found = {"reconstruction": losses(model.batched(module.decode)(hidden), xs)}
        if module.spec.activation in _RANGES:
            low, high = _RANGES[module.spec.activation]
            margin = _SATURATED * (high - low)
            saturated = (hidden < low + margin) | (hidden > high - margin)
            found["saturation"] = jnp.mean(saturated, -1)
        return found

    @jax.jit
    def norm(weights: Any, inputs: Any) -> dict[str, Array]:
        module, xs = model.merge(*weights), vectors(inputs)
        encode = model.batched(module.encode)
        if one_layer:
            kernel, name = module.kernels()[0], module.spec.activation
            squared = jacreg.losses.dense_contractive_penalty(encode(xs), kernel, name)
        else:
            lin = jacreg.linearize(encode, xs)
            squared = jacreg.frobenius_squared(lin, jacreg.Exact(64))
        return {"jacobian_norm": jnp.sqrt(squared)}

    def measure(params: Any, state: Any, final: bool) -> dict[str, float]:
        weights = (params, state)
        found = setting.batches.mean(
            lambda inputs, *_: reconstruction(weights, inputs), dataset.test, "reconstruction"
        )
        if final and settings.jacobian:
            chosen = evaluation.first(dataset.test, settings.jacobian_examples)
            found |= setting.batches.mean(
                lambda inputs, *_: norm(weights, inputs), chosen, "Jacobian norm"
            )
        return found

    return measure
