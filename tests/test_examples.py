"""The examples run as they stand, are short, and show what they say."""

import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_at_most_fifty_lines(path):
    assert len(path.read_text().splitlines()) <= 50


def test_score_matching_learns_the_score():
    result = runpy.run_path(str(EXAMPLES / "score_matching.py"))
    assert result["errors"][-1] < 0.25 * result["errors"][0]


def test_the_custom_loop_flattens_the_classifier(capsys):
    result = runpy.run_path(str(EXAMPLES / "custom_loop.py"))
    assert result["norms"][0.05] < 0.5 * result["norms"][0.0]
    assert capsys.readouterr().out.count("accuracy 0.9") == 2


class TestResidualFlow:
    @pytest.fixture(scope="class")
    def trained(self):
        return runpy.run_path(str(EXAMPLES / "residual_flow.py"))

    @staticmethod
    def exact(trained, xs):
        """Log density by the dense Jacobian of the whole chain, which is 2 x 2."""
        params, states, _ = trained["carry"]

        def chain(xs):
            def block(xs, each):
                # As in training, where a call moves the layers' vectors before it uses them.
                return xs + trained["g"].apply(*each, xs, train=True)[0], None

            return jax.lax.scan(block, xs, (params, states))[0]

        lin = jacreg.linearize(chain, xs)
        base = jax.scipy.stats.norm.logpdf(lin.value).sum(axis=1)
        return base + jacreg.log_pseudo_determinant(lin)

    def test_it_learns_the_banana(self, trained):
        truth = 1 + np.log(2 * np.pi) + np.log(0.3)  # entropy of the points as they were drawn
        first, last = float(trained["losses"][0]), float(trained["losses"][-20:].mean())
        assert last - truth < 0.3 * (first - truth)

    def test_its_density_integrates_to_one(self, trained):
        line = (jnp.arange(150) + 0.5) * (16 / 150) - 6
        points = jnp.stack(jnp.meshgrid(line, line), axis=-1).reshape(-1, 2)
        density = jnp.exp(jax.jit(lambda xs: self.exact(trained, xs))(points))
        assert abs(float(density.sum()) * (16 / 150) ** 2 - 1) < 0.01

    def test_the_power_series_is_unbiased(self, trained):
        params, states, _ = trained["carry"]
        keys = jax.random.split(jax.random.key(5), 100)
        draw = jax.jit(lambda key: trained["loss"](params, states, key)[0])
        draws = np.asarray([draw(key) for key in keys], np.float64)
        truth = -float(jax.jit(lambda xs: self.exact(trained, xs))(trained["XS"]).mean())
        error = draws.std(ddof=1) / np.sqrt(len(draws))
        assert 5 * error < 0.03
        assert abs(draws.mean() - truth) < 5 * error
