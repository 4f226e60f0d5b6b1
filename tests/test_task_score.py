"""The score task: its losses, noise levels, samplers, measures and pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from train_setup import train_cache  # noqa: F401

import jacreg
from train import data, records
from train.config import parse
from train.errors import ConfigError
from train.networks import build_model
from train.run import run
from train.sampling import SAMPLERS
from train.tasks import make_problem
from train.tasks._score import ScoreField, make_forward
from train.tasks._score_losses import Matching
from train.tasks._score_report import Inputs

KEYS = (jax.random.key(1), jax.random.key(2))
LADDER = {"loss": "denoising", "scales": [0.1, 2.0]}


def config(task=(), model=(), source=(), penalty=(), **sections):
    tables = {
        "experiment": {"name": "score"},
        "data": {
            "name": "gaussian",
            "num_examples": 256,
            "num_test": 64,
            "batch_size": 32,
            **dict(source),
        },
        "model": {"name": "score_mlp", "hidden": [8], **dict(model)},
        "task": {"name": "score", **dict(task)},
        "penalty": list(penalty),
        "optimizer": {"name": "adam", "learning_rate": 0.02},
        "training": {"steps": 20, "log_every": 20},
        **sections,
    }
    return parse(tables, "x")


def problem(*arguments, **sections):
    made = config(*arguments, **sections)
    return make_problem(made, data.load(made.data))


def digits(task=(), model=(), source=(), **sections):
    """A config of images."""
    tables = {
        "experiment": {"name": "score"},
        "data": {"name": "digits", "batch_size": 8, **dict(source)},
        "model": {"name": "score_conv", "widths": [2], **dict(model)},
        "task": {"name": "score", **dict(task)},
        "training": {"steps": 2, "log_every": 2},
        **sections,
    }
    return parse(tables, "x")


class TestOptions:
    @pytest.mark.parametrize(
        ("task", "says"),
        [
            ({"loss": "denoising"}, r"task\.scale is missing"),
            ({"loss": "finite_difference"}, r"task\.scale is missing.*step"),
            ({"loss": "sliced", "scale": 0.1}, r"task\.scale: got 0\.1.*task\.smoothing"),
            ({"loss": "denoising", "scale": -0.1}, r"task\.scale: got -0\.1.*> 0"),
            ({"loss": "denoising", "scale": float("nan")}, r"task\.scale.*finite number"),
            ({"smoothing": -1.0}, r"task\.smoothing: got -1\.0.*>= 0"),
            ({"smoothing": float("inf")}, r"task\.smoothing.*finite number"),
            (
                {"loss": "denoising", "scale": 0.1, "smoothing": 0.1},
                r"task\.smoothing.*task\.scale",
            ),
            ({**LADDER, "scale": 0.1}, r"task\.scale: got 0\.1.*task\.scales already"),
            ({**LADDER, "smoothing": 0.1}, r"task\.smoothing.*task\.scales"),
            ({"loss": "denoising", "scales": [2.0, 0.1]}, r"least < largest"),
            ({"loss": "denoising", "scales": [-2.0, 0.1]}, r"task\.scales.*> 0"),
            ({"loss": "denoising", "scales": [0.1]}, r"task\.scales.*a list of 2"),
            ({"loss": "sliced_vr", "method": "exact"}, r"task\.method.*no trace"),
            ({"loss": "implicit", "method": "projection"}, r"task\.method.*\"hutchinson\""),
            ({"loss": "implicit", "num_probes": 2}, r"task\.num_probes.*no slices"),
            ({"loss": "sliced", "num_probes": 0}, r"task\.num_probes.*>= 1"),
            ({"loss": "slice"}, r"task\.loss.*Did you mean \"sliced\""),
            ({"sampler": "reverse_sde"}, r"task\.sampler.*conditional=true.*langevin"),
            ({"sampler": {"name": "langevin", "step": -1}}, r"task\.sampler\.step: got -1.*> 0"),
            ({"sampler": {"name": "langevin", "num_steps": 0}}, r"num_steps: got 0.*>= 1"),
        ],
    )
    def test_what_does_not_fit_together(self, task, says):
        with pytest.raises(ConfigError, match=says):
            problem(task)

    @pytest.mark.parametrize(
        ("task", "model", "says"),
        [
            (LADDER, {"hidden": []}, r"task\.scales.*model\.conditional=true"),
            ({}, {"hidden": [], "conditional": True}, r"model\.conditional.*task\.scales="),
            ({}, {"name": "differential_mlp"}, r'"differential_mlp" returns shape.*shape of its'),
            ({}, {"name": "mlp"}, r'"mlp" returns shape \(2, 64\).*\(2, 8, 8, 1\).*the same'),
            ({}, {"name": "flow", "hidden": [2]}, r'"flow" is no field'),
        ],
    )
    def test_networks_that_are_no_field_on_the_data(self, task, model, says):
        images = model.get("name") == "mlp"
        points = {"name": "gaussian", "num_examples": 8, "num_test": 8}
        tables = {
            "experiment": {"name": "score"},
            "data": {"name": "digits"} if images else points,
            "model": {"name": "score_mlp", "hidden": [4], **model},
            "task": {"name": "score", **task},
            "training": {"steps": 1},
        }
        made = parse(tables, "x")
        with pytest.raises(ConfigError, match=says):
            make_problem(made, data.load(made.data))

    def test_penalties_on_the_score_alone(self):
        with pytest.raises(ConfigError, match=r"penalty\.0\.name.*reads flow"):
            problem(penalty=[{"name": "kinetic_energy", "weight": 1.0}])
        with pytest.raises(ConfigError, match=r"penalty\.0\.weight"):
            config(penalty=[{"name": "jacobian", "weight": float("nan")}])


def trace_by_columns(fn, xs, *args):
    """tr(ds/dx) and s, without jacreg."""

    def one(x, *args):
        def flat(x):
            return fn(x.reshape(1, *xs.shape[1:]), *(arg[None] for arg in args)).ravel()

        return jnp.trace(jax.jacfwd(flat)(x.ravel()))

    return jax.vmap(one)(xs, *args), fn(xs, *args)


def of_batch(made, name, count=5, **options):
    """The losses of a batch, its field, the points and what the loss should be of."""
    dataset = data.load(made.data)
    model = build_model(made.model, dataset, 2, jax.random.key(0))
    field = ScoreField(model, "scales" in options)
    matching = Matching(name, **options)
    xs = jnp.asarray(dataset.train.inputs[:count], jnp.float32)

    @jax.jit
    def losses(params, key):
        return make_forward(field, matching)(params, model.state, xs, None, key, frozenset()).losses

    def score(points, *args):
        return field(model.params, model.state, points, *args)

    return losses, score, xs, matching, model


class TestLosses:
    def test_the_implicit_one_is_exact(self):
        losses, score, xs, _, model = of_batch(config(), "implicit")
        trace, values = jax.jit(lambda xs: trace_by_columns(score, xs))(xs)
        expected = trace + 0.5 * jnp.sum(values**2, 1)
        np.testing.assert_allclose(losses(model.params, KEYS[0]), expected, rtol=1e-4, atol=1e-5)

    def test_a_range_of_levels_weighs_each_by_its_square(self):
        made = config(model={"conditional": True})
        losses, score, xs, matching, model = of_batch(made, "implicit", scales=(0.1, 2.0))
        noise_key, _, _ = jax.random.split(KEYS[0], 3)
        points, (levels,), weights = matching.at_noise(xs, noise_key)
        assert float(levels.min()) >= 0.1
        assert float(levels.max()) <= 2.0
        assert len(np.unique(levels)) == len(xs)
        np.testing.assert_allclose(weights, levels**2)
        trace, values = jax.jit(lambda *a: trace_by_columns(score, *a))(points, levels)
        expected = levels**2 * (trace + 0.5 * jnp.sum(values**2, 1))
        np.testing.assert_allclose(losses(model.params, KEYS[0]), expected, rtol=1e-4, atol=1e-4)

    def test_levels_are_even_in_the_logarithm_and_noise_has_their_size(self):
        matching = Matching("denoising", scales=(0.01, 10.0))
        xs = jnp.zeros((20_000, 2))
        points, (levels,), _ = matching.at_noise(xs, KEYS[0])
        quarters = np.quantile(np.log10(levels), [0.25, 0.5, 0.75])
        # The standard error of a quartile here is at most 3 * 0.5 / sqrt(20000) = 0.011.
        np.testing.assert_allclose(quarters, [-1.25, -0.5, 0.25], atol=0.055)
        standard = np.asarray(points) / np.asarray(levels)[:, None]
        np.testing.assert_allclose([standard.mean(), standard.std()], [0, 1], atol=0.025)

    def test_smoothing_is_noise_of_its_deviation(self):
        noisy, args, weight = Matching("sliced", smoothing=0.3).at_noise(
            jnp.zeros((5000, 2)), KEYS[0]
        )
        assert args == ()
        assert weight == 1
        np.testing.assert_allclose(noisy.std(), 0.3, rtol=0.04)
        xs = jnp.ones((3, 2))
        assert Matching("sliced").at_noise(xs, KEYS[0])[0] is xs

    @pytest.mark.parametrize(("name", "reduced"), [("sliced", False), ("sliced_vr", True)])
    def test_only_one_sliced_loss_knows_the_norm(self, name, reduced):
        lin = jacreg.linearize(lambda xs: -2 * xs, jnp.array([[1.0, 3.0], [0.5, -1.0]]))
        found = Matching(name, num_probes=2).of_linearised(lin, KEYS[0])
        expected = jacreg.losses.sliced_score_matching(
            lin, num_probes=2, variance_reduced=reduced, key=KEYS[0]
        )
        other = jacreg.losses.sliced_score_matching(
            lin, num_probes=2, variance_reduced=not reduced, key=KEYS[0]
        )
        np.testing.assert_allclose(found, expected)
        assert float(jnp.abs(expected - other).max()) > 0.1

    def test_all_of_them_agree_on_a_field_that_is_nearly_linear(self):
        """Means over many draws: each is the implicit objective, at the data under its noise."""
        dataset = data.load(config().data)
        model = build_model(config().model, dataset, 2, jax.random.key(0))
        field = ScoreField(model, False)
        xs = jnp.tile(jnp.asarray(dataset.train.inputs[:1]), (60_000, 1))
        level = 0.5
        true_noise = {"smoothing": level}

        def mean(name, **options):
            forward = make_forward(field, Matching(name, **options))
            run = jax.jit(
                lambda params: forward(params, model.state, xs, None, KEYS[0], frozenset()).losses
            )
            losses = np.asarray(run(model.params), np.float64)
            return losses.mean(), losses.std() / len(losses) ** 0.5

        exact, error = mean("implicit", **true_noise)
        # E 1/2 |s + e / level|^2 = E [tr + 1/2 |s|^2] + d / (2 level^2).
        constants = {"denoising": 2 / (2 * level**2)}
        cases = {
            "sliced": true_noise,
            "sliced_vr": true_noise,
            "finite_difference": {**true_noise, "scale": 0.01},
            "denoising": {"scale": level},
        }
        for name, options in cases.items():
            found, own_error = mean(name, **options)
            both = (error**2 + own_error**2) ** 0.5
            assert 5 * both < 0.2 * abs(exact), name  # it could see a wrong factor
            assert abs(found - constants.get(name, 0) - exact) < 5 * both, name


def test_at_large_noise_an_untrained_field_is_the_score_of_noise():
    made = config(LADDER, {"conditional": True})
    model = build_model(made.model, data.load(made.data), 2, jax.random.key(0))
    silent = jax.tree.map(jnp.zeros_like, model.params)
    xs, levels = jnp.array([[1.0, -2.0], [3.0, 0.5]]), jnp.array([0.5, 2.0])
    found = ScoreField(model, True)(silent, model.state, xs, levels)
    np.testing.assert_allclose(found, -xs / (1 + levels[:, None] ** 2), rtol=1e-6)


class TestSamplers:
    """On a Gaussian N(mean, variance), whose score under noise is known."""

    mean, variance, count = 1.5, 0.36, 20_000

    def score(self, xs, level):
        return (self.mean - xs) / (self.variance + level**2)

    def draw(self, name, levels, start, **options):
        sampler = SAMPLERS[name](**options)
        xs = start * jax.random.normal(jax.random.key(5), (self.count, 1))
        run = jax.jit(lambda xs: sampler.run(self.score, xs, levels, jax.random.key(6)))
        return np.asarray(run(xs), np.float64).ravel()

    def check(self, samples, variance):
        """Five standard errors; a wrong factor of the noise or the drift is far more."""
        mean_error = (variance / self.count) ** 0.5
        variance_error = variance * (2 / self.count) ** 0.5
        assert 5 * variance_error <= 0.051 * variance
        assert abs(samples.mean() - self.mean) < 5 * mean_error
        assert abs(samples.var() - variance) < 5 * variance_error

    def test_langevin_has_its_known_law(self):
        # x <- x + a/2 (m - x) / v + sqrt(a) e rests at the variance v / (1 - a / (4 v)).
        level, step = 0.8, 0.5
        total = self.variance + level**2
        samples = self.draw("langevin", (level, level), 1.0, num_steps=60, step=step, denoise=False)
        size = step * level**2
        self.check(samples, total / (1 - size / (4 * total)))

    def test_langevin_without_noise_takes_steps_of_the_data(self):
        samples = self.draw("langevin", (0.0, 0.0), 1.0, num_steps=300, step=0.05)
        self.check(samples, self.variance / (1 - 0.05 / (4 * self.variance)))

    def test_annealing_ends_at_the_least_level(self):
        samples = self.draw(
            "langevin", (0.2, 4.0), 4.0, num_steps=60, num_levels=6, step=0.5, denoise=False
        )
        # The last level mixes at a rate of step * level^2 / 2 / variance: almost its own law.
        size, total = 0.5 * 0.2**2, self.variance + 0.2**2
        final = total / (1 - size / (4 * total))
        assert abs(samples.mean() - self.mean) < 0.1
        assert abs(samples.var() - final) < 0.25 * final

    def test_the_reverse_diffusion_gives_the_data_under_the_least_noise(self):
        samples = self.draw("reverse_sde", (0.4, 20.0), 20.0, num_steps=600, denoise=False)
        # The start has the variance level^2 and mean 0, not the data's: 1e-3 of the variance is
        # left of that, and as much of the steps.
        self.check(samples, self.variance + 0.4**2)

    @pytest.mark.parametrize("name", SAMPLERS)
    def test_the_last_step_is_the_mean_of_the_clean_data(self, name):
        options = {"num_steps": 3}
        levels = (0.5, 2.0)
        noisy = self.draw(name, levels, 2.0, denoise=False, **options)
        clean = self.draw(name, levels, 2.0, denoise=True, **options)
        posterior = (self.variance * noisy + 0.25 * self.mean) / (self.variance + 0.25)
        np.testing.assert_allclose(clean, posterior, rtol=1e-4, atol=1e-4)


class TestMeasures:
    def test_the_error_is_against_the_true_score_in_the_datas_coordinates(self):
        source = {"correlation": 0.5, "std": [2.0, 0.5], "mean": [1.0, 0.0]}
        made = config({"loss": "sliced_vr"}, {"hidden": []}, source)
        dataset = data.load(made.data)
        found = make_problem(made, dataset)
        metrics = found.evaluate(found.params, found.state, True)
        layer = found.params["dense_1"]
        weight, bias = layer["kernel"][...].T, layer["bias"][...]
        xs = dataset.test.inputs.astype(np.float64)
        mean, std = np.array([1.0, 0.0]), np.array([2.0, 0.5])
        ours = (((xs - mean) / std) @ np.asarray(weight, np.float64).T + bias) / std
        precision = np.linalg.inv([[1, 0.5], [0.5, 1]])
        error = np.mean(np.sum((ours + xs @ precision) ** 2, 1))
        np.testing.assert_allclose(metrics["test/score_error"], error, rtol=1e-4)
        values = ours * std
        objective = np.trace(weight) + 0.5 * np.mean(np.sum(values**2, 1))
        np.testing.assert_allclose(metrics["test/score_matching"], objective, rtol=1e-4)
        np.testing.assert_allclose(metrics["test/jacobian_norm"], np.linalg.norm(weight), rtol=1e-4)

    def test_of_images_by_colouring(self, tmp_path):
        task = {"smoothing": 0.2, "sampler": {"name": "langevin", "num_steps": 2}, "num_samples": 9}
        made = digits(task, evaluation={"jacobian": False, "batch_size": 400})
        found = make_problem(made, data.load(made.data))
        metrics = found.evaluate(found.params, found.state, True)
        assert set(metrics) == {"test/loss", "test/score_matching"}
        # The sliced loss estimates it, over 360 images.
        assert metrics["test/loss"] == pytest.approx(metrics["test/score_matching"], rel=0.2)
        assert set(found.evaluate(found.params, found.state, False)) == {"test/loss"}
        found.report(found.params, found.state, tmp_path)
        written = records.read_arrays(tmp_path / "figures" / "samples.npz")
        assert written["samples"].shape == written["examples"].shape == (9, 8, 8, 1)
        assert np.isfinite(written["samples"]).all()
        assert (written["examples"] <= 1).all()


def test_images_in_any_layout_come_back_as_pixels():
    layout = ["NCHW", "OIHW", "NCHW"]
    made = digits(model={"layout": layout}, source={"mean": 0.3, "std": 0.4})
    dataset = data.load(made.data)
    model = build_model(made.model, dataset, 64, jax.random.key(0))
    arranged = model.arrange(dataset)

    def prepare(raw):
        return (jnp.asarray(raw, jnp.float32) / 255 - 0.3) / 0.4

    inputs = Inputs(made.data, arranged, prepare, model.axes)
    xs = prepare(arranged.test.inputs[:3])
    assert xs.shape == (3, 1, 8, 8)
    np.testing.assert_allclose(inputs.restore(xs), dataset.test.inputs[:3] / 255, atol=1e-6)


@pytest.mark.usefixtures("train_cache")
class TestRuns:
    def test_it_learns_a_gaussian_and_draws_from_it(self, tmp_path):
        made = config(
            {
                "loss": "implicit",
                "sampler": {"name": "langevin", "num_steps": 100, "step": 0.1},
                "num_samples": 500,
            },
            {"hidden": [16], "activation": "silu"},
            {"correlation": 0.8, "num_examples": 4000, "batch_size": 256},
            training={"steps": 300, "log_every": 100},
        )
        metrics = run(made, tmp_path)["metrics"]
        # A score of 0 has an error of tr(precision) = 5.6.
        assert metrics["test/score_error"] < 0.6
        written = records.read_arrays(tmp_path / "figures" / "score_field.npz")
        assert written["field"].shape == written["truth"].shape == written["grid"].shape
        samples = written["samples"]
        assert samples.shape == (500, 2)
        assert np.corrcoef(samples.T)[0, 1] > 0.5
        for name in ("score_field.png", "samples.png"):
            assert (tmp_path / "figures" / name).stat().st_size > 5000
