"""The networks of `models` as a task sees them: built from `[model]`, brought to one shape."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import jacreg
import models
from models._networks import NETWORKS
from train.errors import ConfigError, reason, shown
from train.expect import Key, keys_of
from train.own import applied, is_target, keyed, own_functional, taken_apart
from train.precision import computed_in
from train.rearranged import rearranged, takes

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree

    from jacreg._functional import Functional
    from train.data import Dataset
    from train.sections import Model

# What the data and the section's own keys decide, not the network's options.
_DECIDED = ("layout", "input_shape", "num_classes", "outputs")


def model_keys(name: str) -> dict[str, Key]:
    """Return the options of a network as config keys."""
    network = NETWORKS[name]
    defaults = dict(network.defaults)
    return {
        option: replace(key, default=defaults.get(option, key.default))
        for option, key in keys_of(network.spec).items()
        if option not in _DECIDED
    }


def completed(config: Model) -> Model:
    """Return the section with its framework filled in, nnx where the network exists there.

    Raises:
        ConfigError: the network does not exist in the framework, or does not take the layout or
            an option, with the path of the key at fault.
    """
    if config.target is not None:
        _layout(config)
        return config
    network = NETWORKS[config.name]
    if config.framework is None:
        config = replace(config, framework=network.frameworks[0])
    if config.framework not in network.frameworks:
        raise ConfigError(
            f'model.framework: got "{config.framework}", but "{config.name}" exists in '
            f"{', '.join(network.frameworks)}."
        )
    layout = _layout(config)
    try:
        network.spec(layout=layout, **{**dict(network.defaults), **config.options})
    except (TypeError, ValueError) as error:
        words = str(error).split()[:3]
        at_fault = next((word for word in words if word in config.options), None)
        path = "model" if at_fault is None else f"model.{at_fault}"
        raise ConfigError(f"{path}: {reason(error, 600)}") from None
    return config


@dataclass(frozen=True)
class BuiltModel:
    """A network with its start values.

    Attributes:
        params, state: pytrees.
        apply: `(params, state, xs, train=False, key=None) -> (ys, state)`, xs with the batch
            axis first and the others in the layout's order.
        axes: the order of the data's axes N, H, W, C that `apply` takes.
        name: for messages.
        merge: `(params, state) -> model`, the framework's own object with these parameters.
        per_example: whether that object is called on one example.
    """

    params: PyTree
    state: PyTree
    apply: Callable[..., Any]
    axes: tuple[int, ...] | None
    name: str
    merge: Callable[[Any, Any], Any]
    per_example: bool = False

    @property
    def channel_axis(self) -> int:
        """Where the channels are, counted with the batch axis."""
        return -1 if self.axes is None else self.axes.index(3)

    def picture_axes(self, dataset: Dataset) -> tuple[int, ...] | None:
        """Return `axes` for pictures of the data: arrays may come channels first as they are."""
        shape = dataset.input_shape
        first = len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3)
        return (0, 3, 1, 2) if self.axes is None and first else self.axes

    def batched(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method of what `merge` gives as a function of batches, N first."""
        return jax.vmap(method) if self.per_example else method

    def arrange(self, dataset: Dataset) -> Dataset:
        """Return the data set with its axes in the order that `apply` takes."""
        if self.axes is None or self.axes == (0, 1, 2, 3):
            return dataset

        def arranged(examples: Any) -> Any:
            inputs = np.ascontiguousarray(np.transpose(examples.inputs, self.axes))
            return replace(examples, inputs=inputs)

        return replace(dataset, train=arranged(dataset.train), test=arranged(dataset.test))

    def check_outputs(
        self, sample: Array, width: int, call: Callable[[Array], Any] | None = None
    ) -> None:
        """Raise unless the model, or how a task calls it, maps a batch to `[N, width]`.

        Raises:
            ConfigError: it does not fit the data.
        """
        call = call or (lambda xs: self.apply(self.params, self.state, xs)[0])
        try:
            ys = jax.eval_shape(call, sample)
        except Exception as error:  # a model of the user's own may raise any
            raise ConfigError(
                f"{keyed(self.name)} does not take inputs of shape {sample.shape[1:]} "
                f"({reason(error)}).{self._hint(call, sample)}"
            ) from None
        if getattr(ys, "shape", None) is None:
            raise ConfigError(
                f"{keyed(self.name)} returns {shown(ys)} for a batch, expected one array."
            )
        if ys.shape != (sample.shape[0], width):
            raise ConfigError(
                f"{keyed(self.name)} returns shape {ys.shape} for a batch of "
                f"{sample.shape[0]}, expected {(sample.shape[0], width)}."
            )

    def _hint(self, call: Callable[[Array], Any], sample: Array) -> str:
        """Return what to do where a model of one's own takes the data in another order."""
        if not is_target(self.name):
            return "" if self.name in NETWORKS else rearranged(call, sample)
        called, flat = f"a batch, {sample.shape}", "xs = xs.reshape(len(xs), -1)"
        if self.per_example:
            called, flat = f"one example, {sample.shape[1:]}", "x = x.ravel()"
        said = f" It is called on {called}."
        if takes(call, (len(sample), math.prod(sample.shape[1:])), sample.dtype):
            return f"{said} It takes flat inputs: begin its call with {flat}."
        if sample.ndim != 4:
            return said
        order = (0, 3, 1, 2) if self.axes is None else tuple(np.argsort(self.axes).tolist())
        if not takes(call, tuple(sample.shape[axis] for axis in order), sample.dtype):
            return said
        if self.axes is not None:
            return " It takes images as they come, H, W, C: remove `layout` in section [model]."
        return (
            " Images come as H, W, C; the model takes channels first: write "
            'layout = ["NCHW", "OIHW", "NCHW"] in section [model].'
        )

    def is_coupled(self, sample: Array) -> bool:
        """Return whether training mode mixes the rows of a batch, as BatchNorm does.

        Raises:
            ConfigError: a model of the user's own does so in evaluation mode, too.
        """

        # The weights are arguments, so that the compiled program serves every seed.
        @partial(jax.jit, static_argnames="train")
        def model_pass(params: Any, state: Any, xs: Any, *, train: bool) -> Any:
            return self.apply(params, state, xs, train=train, key=jax.random.key(0))[0]

        def mixes(train: bool) -> bool:
            call = partial(model_pass, self.params, self.state, train=train)
            return not jacreg.rows_independent(call, sample)

        coupled = mixes(True)
        if coupled and self.name not in NETWORKS and mixes(False):
            raise ConfigError(
                f'model: "{self.name}" mixes the rows of a batch in evaluation mode, too: what it '
                "says of an example would depend on which others share its batch, and no Jacobian "
                "is that of one example. Let it compute each row from that row alone, or use a "
                "BatchNorm, which has running statistics for that."
            )
        return coupled


def build_model(
    config: Model, dataset: Dataset, num_outputs: int, key: Array, precision: str = "float32"
) -> BuiltModel:
    """Return the network of `[model]` for a data set; `apply` computes in `precision`.

    Raises:
        ConfigError: the framework, layout or an option does not fit the network.
    """
    layout, framework = _layout(config), config.framework
    if config.target is not None:
        functional, framework = own_functional(config, key)
        apply = applied(functional)
    else:
        functional = _network(config, layout, dataset, num_outputs, key)
        apply = functional.apply
    axes, per_example = None, framework == "equinox"
    apply = computed_in(apply, precision)
    # A model of one's own takes the data as it is, unless it asks for an order.
    if len(dataset.input_shape) == 3 and (config.target is None or config.layout is not None):
        order = "N" + layout.inputs.replace("N", "")
        axes = tuple("NHWC".index(letter) for letter in order)
        if layout.batch_axis != 0 and not per_example and config.target is None:
            apply = _batch_first(apply, layout.batch_axis)
    return BuiltModel(
        functional.params, functional.state, apply, axes, config.name, functional.merge, per_example
    )


def check_field(
    name: str, call: Callable[[Array], Any], sample: Array, kind: str, known: str, why: str
) -> None:
    """Raise unless a call of the network gives one array of the batch's own shape.

    Args:
        kind, known: what the network should be, and such networks, for messages.
        why: the shape must be the same.

    Raises:
        ConfigError: it does not take the batch, or returns something else.
    """
    try:
        ys = jax.eval_shape(call, sample)
    except (AttributeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{keyed(name)} is no {kind} on inputs of shape {sample.shape[1:]} "
            f"({reason(error)}){known}"
        ) from None
    if getattr(ys, "shape", None) != sample.shape:
        shapes = jax.tree.map(lambda leaf: leaf.shape, ys)
        raise ConfigError(
            f"{keyed(name)} returns shape {shapes} for a batch of shape {sample.shape}; {why}"
        )


def _network(
    config: Model, layout: Any, dataset: Dataset, num_outputs: int, key: Array
) -> Functional:
    options = dict(config.options)
    known = NETWORKS[config.name].options
    if "input_shape" in known:
        options["input_shape"] = dataset.input_shape
    for option in ("num_classes", "outputs"):
        if option in known:
            options[option] = num_outputs
    try:
        built = models.build(
            config.name, framework=config.framework, layout=layout, key=key, **options
        )
        return _functional(built, config.framework)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model: {reason(error, 600)}") from None


def _layout(config: Model) -> Any:
    try:
        layout = models.ConvLayout.of(config.layout)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.layout: {error}") from None
    if sorted(layout.inputs) != sorted("NHWC"):
        raise ConfigError(
            f"model.layout: got inputs {layout.inputs!r}, expected a permutation of 'NHWC' "
            "for images."
        )
    return layout


def _functional(built: Any, framework: str | None) -> Any:
    if framework == "linen":
        import jacreg.linen

        return jacreg.linen.functional(*built)
    return taken_apart(built)[0]


def _batch_first(apply: Callable[..., Any], batch_axis: int) -> Callable[..., Any]:
    """Let a network whose batch axis is elsewhere take batches with N first, and give them."""

    def moved(params: Any, state: Any, xs: Any, *args: Any, **options: Any) -> Any:
        ys, state = apply(params, state, jnp.moveaxis(xs, 0, batch_axis), *args, **options)
        # Images come in the order of the inputs; logits have N first.
        return (jnp.moveaxis(ys, batch_axis, 0) if ys.ndim == xs.ndim else ys), state

    return moved
