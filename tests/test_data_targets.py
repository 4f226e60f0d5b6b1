"""Targets that are none, one array or several by name; regression on values and Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from train_setup import tiny

from train import data
from train.data import FUNCTIONS, Dataset, Examples, map_targets, random_split
from train.errors import ConfigError


def loaded(name, **options):
    return data.load(tiny(data={"name": name, **options}).data)


INPUTS = np.arange(6, dtype=np.float32)[:, None]
NAMED = {"value": 2 * INPUTS, "jacobian": np.arange(12.0, dtype=np.float32).reshape(6, 2, 1)}


class TestExamples:
    @pytest.mark.parametrize("kind", ["none", "labels", "array", "named"])
    def test_rows_are_taken_together(self, kind):
        labels = np.arange(6, dtype=np.int32)
        targets = {"none": None, "labels": labels, "array": 2 * INPUTS, "named": NAMED}
        rows = np.asarray([4, 1, 1])
        taken = Examples(INPUTS, targets[kind]).take(rows)
        np.testing.assert_array_equal(taken.inputs[:, 0], [4, 1, 1])
        if kind == "none":
            assert taken.targets is None
        elif kind == "named":
            assert taken.targets.keys() == NAMED.keys()
            np.testing.assert_array_equal(taken.targets["value"], 2 * taken.inputs)
            np.testing.assert_array_equal(taken.targets["jacobian"][0, :, 0], [8, 9])
        else:
            np.testing.assert_array_equal(taken.targets, targets[kind][rows])

    def test_every_array_counts_in_the_fingerprint(self):
        def fingerprint(targets):
            examples = Examples(INPUTS, targets)
            return Dataset("x", examples, examples).fingerprint()

        value, jacobian = NAMED["value"], NAMED["jacobian"]
        kinds = [
            None,
            value,
            {"value": value},
            NAMED,
            {"value": value, "jacobian": jacobian + 1},
            {"value": value, "hessian": jacobian},
        ]
        assert len({fingerprint(targets) for targets in kinds}) == len(kinds)
        reordered = {"jacobian": jacobian, "value": value}
        assert fingerprint(reordered) == fingerprint(NAMED)

    def test_describe(self):
        examples = Examples(INPUTS, NAMED)
        found = Dataset("x", examples, examples).describe()
        assert found["target_shape"] == {"value": [1], "jacobian": [2, 1]}
        assert map_targets(len, NAMED) == {"value": 6, "jacobian": 6}
        assert map_targets(len, None) is None

    @pytest.mark.parametrize(
        "targets", [np.zeros(5), np.zeros((5, 6)), {"value": np.zeros(6), "jacobian": np.zeros(7)}]
    )
    def test_targets_of_other_length_are_refused(self, targets):
        with pytest.raises(ValueError, match="expected 6 rows"):
            Examples(INPUTS, targets)

    def test_random_split_keeps_every_row_once(self):
        examples = Examples(INPUTS, NAMED)
        train, test = random_split(examples, 0.3, seed=2)
        assert (len(train), len(test)) == (4, 2)
        both = np.concatenate([train.inputs, test.inputs])
        np.testing.assert_array_equal(np.sort(both, axis=0), INPUTS)
        np.testing.assert_array_equal(test.targets["value"], 2 * test.inputs)
        again, _ = random_split(examples, 0.3, seed=2)
        np.testing.assert_array_equal(again.inputs, train.inputs)
        # Neither part is ever empty.
        assert [len(part) for part in random_split(examples, 0.001)] == [5, 1]
        assert [len(part) for part in random_split(examples, 0.999)] == [1, 5]
        with pytest.raises(ValueError, match="at least 2"):
            random_split(examples.take(np.asarray([0])), 0.5)


@pytest.mark.parametrize(
    ("name", "dimensions", "test"), [("function-1d", 1, 100), ("function-2d", 2, 2500)]
)
class TestFunctions:
    def test_shapes(self, name, dimensions, test):
        found = loaded(name)
        assert found.describe()["target_shape"] == {"value": [1], "jacobian": [1, dimensions]}
        assert (len(found.train), len(found.test)) == (25_600, test)
        for split in (found.train, found.test):
            arrays = [split.inputs, *split.targets.values()]
            assert all(array.dtype == np.float32 for array in arrays)
            assert split.inputs.shape == (len(split), dimensions)
        assert np.abs(found.train.inputs).max() <= np.float32(np.pi)
        assert np.abs(found.test.inputs).max() == np.float32(np.pi)

    def test_derivatives_are_those_of_the_value(self, name, dimensions, test):
        function = FUNCTIONS[name]
        assert function.dimensions == dimensions
        points = np.random.default_rng(0).uniform(-3, 3, (50, dimensions))
        step = 1e-5
        jacobian, hessian = function.jacobian(points), function.hessian(points)
        assert (jacobian.shape, hessian.shape) == (
            (50, 1, dimensions), (50, 1, dimensions, dimensions),
        )  # fmt: skip
        for axis in range(dimensions):
            shift = step * np.eye(dimensions)[axis]
            slope = (function.value(points + shift) - function.value(points - shift)) / (2 * step)
            np.testing.assert_allclose(jacobian[..., axis], slope, atol=1e-9)
            bend = (
                (function.jacobian(points + shift) - function.jacobian(points - shift)) / 2 / step
            )
            np.testing.assert_allclose(hessian[..., axis], bend, atol=1e-9)

    def test_targets_are_exact_without_noise(self, name, dimensions, test):
        def formula(x):
            return jnp.sin(x) if dimensions == 1 else jnp.cos(x[:1]) * jnp.sin(x[1:])

        found = loaded(name, num_examples=500)
        for split in (found.train, found.test):
            values, slopes = jax.jit(
                lambda xs: (jax.vmap(formula)(xs), jax.vmap(jax.jacrev(formula))(xs))
            )(split.inputs)
            np.testing.assert_allclose(split.targets["value"], values, atol=1e-6)
            np.testing.assert_allclose(split.targets["jacobian"], slopes, atol=1e-6)

    def test_noise_is_on_the_training_rows_alone(self, name, dimensions, test):
        exact, noisy = loaded(name), loaded(name, noise=0.1)
        np.testing.assert_array_equal(noisy.test.inputs, exact.test.inputs)
        np.testing.assert_array_equal(noisy.test.targets["value"], exact.test.targets["value"])
        pairs = [(noisy.train.inputs, exact.train.inputs)]
        pairs += [
            (noisy.train.targets[key], exact.train.targets[key]) for key in exact.train.targets
        ]
        for changed, clean in pairs:
            difference = changed - clean
            # The standard error of a standard deviation is 0.1 / sqrt(2 N).
            assert abs(difference.std() - 0.1) < 5 * 0.1 / np.sqrt(2 * difference.size)
            assert abs(difference.mean()) < 5 * 0.1 / np.sqrt(difference.size)

    def test_options(self, name, dimensions, test):
        few = loaded(name, num_examples=7, test_grid=3, seed=4)
        assert (len(few.train), len(few.test)) == (7, 3**dimensions)
        assert loaded(name, num_examples=7, test_grid=3, seed=4).fingerprint() == few.fingerprint()
        assert loaded(name, num_examples=7, test_grid=3).fingerprint() != few.fingerprint()
        for options in ({"noise": -1}, {"test_grid": 1}, {"num_examples": 0}):
            with pytest.raises(ConfigError, match=rf"data\.{next(iter(options))}"):
                tiny(data={"name": name, **options})
