"""The examples run as they stand, are short, and show what they say."""

import ast
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

EXAMPLES = Path(__file__).parent.parent / "examples"


ALL = sorted(EXAMPLES.glob("*.py"))
FRAMEWORKS = {"jax", "flax", "equinox", "optax", "diffrax", "train"}


def run(name):
    """The names of an example after it ran."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_an_example_is_short_and_imports_the_library_and_a_framework_alone(path):
    text = path.read_text()
    assert len(text.splitlines()) <= (50 if path.stem == "residual_flow" else 40)
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert "jacreg" in imported
    assert imported <= FRAMEWORKS | {"jacreg", "functools", "tempfile"}


@pytest.mark.parametrize("framework", ["nnx", "linen", "equinox"])
def test_a_classifier_is_flatter_with_the_penalty(framework, capsys):
    pytest.importorskip("equinox" if framework == "equinox" else "flax")
    norms = run(f"{framework}_classifier")["norms"]
    assert norms[0.02] < 0.7 * norms[0.0]
    assert capsys.readouterr().out.count("weight") == 2


def test_a_model_of_ones_own(capsys):
    norms = run("own_model")["norms"]
    assert max(norms["by name"], norms["by hand"]) < 0.9 * norms["none"]
    assert "by hand: accuracy" in capsys.readouterr().out


def test_a_mean_flow_makes_points_near_the_data_in_one_step(capsys):
    before, after = run("mean_flow")["away"]
    assert after < 0.6 * before
    assert "mean distance to a corner" in capsys.readouterr().out


def test_the_gradient_penalty_tames_a_critic_of_patches():
    penalties = run("patch_critic")["penalties"]
    assert penalties[10.0][-1] < 1 < penalties[0.0][-1]


def test_a_free_form_flow_whitens_its_data():
    before, after = run("free_form_flow")["spread"]
    assert np.all(abs(after - 1) < 0.5 * abs(before - 1))


def test_the_lyapunov_penalty_moves_exponents_to_zero():
    exponents = run("lyapunov")["exponents"]
    assert np.all(exponents["before"] < -0.5)
    assert np.all(abs(exponents["after"]) < 0.05)


def test_a_penalty_on_input_gradients_lowers_itself():
    found = run("input_gradients")["found"]
    for name in set(found) - {"none"}:
        assert found[name][name] < 0.5 * found["none"][name]


def test_methods_of_a_norm_by_their_spectra():
    errors = run("norm_estimates")["errors"]
    assert errors["falling", "XRowNorm"] < 0.2 * errors["falling", "Projection"]
    assert errors["local", "Probing"] < 0.2 * errors["local", "Projection"]


def test_a_sparse_jacobian_is_the_dense_one():
    found = run("sparse_jacobian")
    assert found["loaded"] == found["coloring"]
    assert float(found["error"]) < 1e-6
    assert found["matrices"].nse == 600


def test_exact_divergence():
    found = run("exact_divergence")
    assert found["coloring"].num_colors == 27
    lin = jacreg.linearize(found["fn"], found["IMAGES"][:, :6, :6])
    coloring = jacreg.color(found["fn"], found["IMAGES"][:, :6, :6])
    np.testing.assert_allclose(
        jacreg.divergence(lin, coloring), jacreg.divergence(lin, jacreg.Exact()), rtol=1e-4
    )
    spread = np.abs(found["exact"] - found["probes"])
    assert np.all(spread < 0.3 * np.abs(found["exact"]))
    assert np.all(spread > 0)


def test_flow_divergence_is_that_of_the_closed_form():
    found = run("flow_divergence")
    np.testing.assert_allclose(found["found"].log_density, found["true"], rtol=1e-4)


def test_the_equilibrium_penalty_flattens_the_cell():
    radii = run("equilibrium_penalty")["radii"]
    assert radii[0.3] < 0.5 * radii[0.0] < 0.5


def test_the_tangent_kernel_predicts_a_step():
    found = run("tangent_kernel")
    assert float(found["error"]) < 1e-3
    gradients = jax.jacobian(lambda p: found["apply"](p, found["XS"][:3])[:, 0])(found["PARAMS"])
    flat = np.concatenate([np.reshape(leaf, (3, -1)) for leaf in jax.tree.leaves(gradients)], 1)
    np.testing.assert_allclose(found["kernel"][:3, :3], flat @ flat.T, rtol=1e-4)


def test_the_norm_of_a_convolution():
    found = run("convolution_norm")
    assert float(found["norm"]) > 1.1 * float(found["reshaped"])
    assert abs(float(found["after"]) - 1) < 2e-3
    columns = jax.vmap(found["strided"])(jnp.eye(2048).reshape(2048, *found["SHAPE"]))
    truth = np.linalg.norm(columns.reshape(2048, -1), ord=2)
    assert abs(float(found["norm"]) - truth) < 2e-3 * truth


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
