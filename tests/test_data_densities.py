"""Toy densities and Gaussians: what is drawn, and the closed forms of what is known."""

import numpy as np
import pytest
from scipy import stats
from train_setup import tiny

from train import data
from train.data import LOG_DENSITIES, SCORES, true_log_density, true_score
from train.errors import ConfigError, DataError

FFJORD = (
    "two-moons", "circles", "swiss-roll", "8-gaussians",
    "pinwheel", "rings", "2-spirals", "checkerboard",
)  # fmt: skip
ALL = (*FFJORD, "gaussian", "gaussian-mixture")
NOISY = ("two-moons", "circles", "swiss-roll", "8-gaussians", "rings", "2-spirals")


def section(name, **options):
    return tiny(data={"name": name, **options}).data


def drawn(name, **options):
    return data.load(section(name, **options))


@pytest.mark.parametrize("name", ALL)
class TestEveryDensity:
    def test_shape_and_range(self, name):
        found = drawn(name)
        assert (found.train.inputs.shape, found.test.inputs.shape) == ((20_000, 2), (4_000, 2))
        assert found.train.inputs.dtype == np.float32
        assert found.train.targets is None
        assert found.classes == ()
        assert not found.is_image
        assert found.describe()["target_shape"] is None
        assert np.abs(found.train.inputs).max() < 6
        assert np.mean(np.abs(found.train.inputs) <= 4) > 0.99
        assert found.train.inputs.std() > 0.9

    def test_the_seed_decides(self, name):
        options = {"num_examples": 300, "num_test": 200}
        first = drawn(name, **options)
        assert drawn(name, **options).fingerprint() == first.fingerprint()
        assert drawn(name, seed=1, **options).fingerprint() != first.fingerprint()
        # The splits are drawn apart: they share no point, and do not move each other.
        rows = {row.tobytes() for row in first.train.inputs}
        assert not any(row.tobytes() in rows for row in first.test.inputs)
        more = drawn(name, num_examples=300, num_test=500)
        np.testing.assert_array_equal(more.train.inputs, first.train.inputs)

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_few_points(self, name, count):
        found = drawn(name, num_examples=count, num_test=1)
        assert (len(found.train), len(found.test)) == (count, 1)
        assert np.isfinite(found.train.inputs).all()


def grid(low, high, step):
    """Return the midpoints of square cells, `[cells^2, 2]`."""
    axis = np.arange(low + step / 2, high, step)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)


def cell_probabilities(log_density, *, low, high, bins, fine=8):
    width = (high - low) / bins
    values = np.exp(log_density(grid(low, high, width / fine))) * (width / fine) ** 2
    return values.reshape(bins, fine, bins, fine).sum((1, 3))


def excess(points, probabilities, *, low, high):
    """Return Pearson's chi-squared over cells that expect 10 points, in its standard deviations."""
    bins = len(probabilities)
    counts = np.histogram2d(*points.T, bins=bins, range=[[low, high]] * 2)[0]
    expected = probabilities * len(points)
    full = expected >= 10
    # One cell more for all the others: points where none should be count.
    counts = np.append(counts[full], len(points) - counts[full].sum())
    expected = np.append(expected[full], len(points) - expected[full].sum())
    freedom = len(expected) - 1
    squares = np.sum((counts - expected) ** 2 / np.maximum(expected, 1))
    return (squares - freedom) / np.sqrt(2 * freedom)


CASES = [(name, {}) for name in LOG_DENSITIES] + [
    ("circles", {"noise": 0.5}),
    ("rings", {"noise": 0.2}),
    ("8-gaussians", {"noise": 0.6}),
    ("gaussian", {"correlation": -0.8}),
    ("gaussian-mixture", {"components": 4, "separation": 1.5, "noise": 0.8}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
class TestClosedForms:
    def test_integrates_to_one(self, name, options):
        log_density = true_log_density(section(name, **options))
        step = 0.04
        total = np.exp(log_density(grid(-8, 8, step))).sum() * step**2
        assert total == pytest.approx(1, abs=1e-9)

    def test_the_samples_follow_it(self, name, options):
        chosen = section(name, num_examples=60_000, num_test=1, **options)
        log_density = true_log_density(chosen)
        points = data.load(chosen).train.inputs
        bounds = {"low": -6, "high": 6}
        right = cell_probabilities(log_density, bins=48, **bounds)
        # The test sees a density that is 3 % too narrow, so passing it says something.
        wrong = cell_probabilities(
            lambda xs: log_density(xs * 1.03) + 2 * np.log(1.03), bins=48, **bounds
        )
        assert excess(points, wrong, **bounds) > 8
        assert excess(points, right, **bounds) < 5

    def test_score_is_the_gradient(self, name, options):
        chosen = section(name, **options)
        score, log_density = true_score(chosen), true_log_density(chosen)
        if score is None:
            assert name == "checkerboard"
            return
        points = np.random.default_rng(0).uniform(-4, 4, (200, 2))
        step = 1e-5
        for axis in range(2):
            shift = step * np.eye(2)[axis]
            slope = (log_density(points + shift) - log_density(points - shift)) / (2 * step)
            np.testing.assert_allclose(score(points)[:, axis], slope, rtol=1e-5, atol=1e-5)
        assert np.isfinite(score(np.zeros((1, 2)))).all()


def test_no_sample_of_checkerboard_has_density_zero():
    log_density = LOG_DENSITIES["checkerboard"]
    points = drawn("checkerboard", num_examples=200_000).train.inputs
    np.testing.assert_array_equal(log_density(points), -np.log(32))
    outside = [[0.5, -0.5], [4.0, 0.5], [-4.1, -4.1], [0.5, 4.1]]
    np.testing.assert_array_equal(log_density(outside), -np.inf)


@pytest.mark.parametrize("dimensions", [1, 2, 7])
@pytest.mark.parametrize("correlation", [0.0, 0.6, -0.9])
def test_gaussian_of_any_dimension(dimensions, correlation):
    index = np.arange(dimensions)
    covariance = float(correlation) ** np.abs(index[:, None] - index)
    points = np.random.default_rng(1).standard_normal((20, dimensions))
    expected = stats.multivariate_normal(np.zeros(dimensions), covariance).logpdf(points)
    found = LOG_DENSITIES["gaussian"](points, correlation=correlation)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    score = SCORES["gaussian"](points, correlation=correlation)
    np.testing.assert_allclose(score, -points @ np.linalg.inv(covariance), rtol=1e-8, atol=1e-8)
    count = 50_000
    options = {"dimensions": dimensions, "correlation": correlation, "num_examples": count}
    sampled = drawn("gaussian", **options).train.inputs
    # An entry of the sample covariance has a standard error of at most sqrt(2 / count).
    error = np.sqrt(2 / count)
    assert 5 * error < 0.05
    assert np.abs(sampled.T @ sampled / count - covariance).max() < 5 * error


@pytest.mark.parametrize("dimensions", [1, 5])
def test_mixture_of_any_dimension(dimensions):
    points = np.random.default_rng(2).standard_normal((20, dimensions))
    direction = np.ones(dimensions) / np.sqrt(dimensions)
    parts = [
        weight * stats.multivariate_normal(shift * direction, 0.49 * np.eye(dimensions)).pdf(points)
        for weight, shift in ((1 / 6, -3.0), (2 / 6, 0.0), (3 / 6, 3.0))
    ]
    found = LOG_DENSITIES["gaussian-mixture"](points, separation=3.0, noise=0.7)
    np.testing.assert_allclose(found, np.log(sum(parts)), rtol=1e-10)
    far = LOG_DENSITIES["gaussian-mixture"](1e3 * np.ones((1, dimensions)))
    assert np.isfinite(far).all()


class TestShapesWithoutNoise:
    """Where no closed form is known, the noiseless curve is."""

    def test_two_moons(self):
        points = drawn("two-moons", noise=1e-6, num_examples=1000).train.inputs
        x, y = np.add(points, [1.0, 0.2]).T / 2  # scikit-learn's own coordinates
        upper = np.abs(np.hypot(x, y) - 1) + np.maximum(-y, 0)
        lower = np.abs(np.hypot(x - 1, y - 0.5) - 1) + np.maximum(y - 0.5, 0)
        assert np.minimum(upper, lower).max() < 1e-4
        assert np.mean(upper < lower) == pytest.approx(0.5, abs=0.01)

    def test_swiss_roll(self):
        points = drawn("swiss-roll", noise=1e-6, num_examples=1000).train.inputs
        angle = 5 * np.linalg.norm(points, axis=1)
        curve = np.stack([np.cos(angle), np.sin(angle)], 1) * angle[:, None] / 5
        assert np.abs(points - curve).max() < 1e-4
        assert angle.min() == pytest.approx(1.5 * np.pi, abs=0.1)
        assert angle.max() == pytest.approx(4.5 * np.pi, abs=0.1)

    def test_two_spirals(self):
        points = drawn("2-spirals", noise=1e-6, num_examples=4000).train.inputs
        x, y = (3 * points).T
        # Some angle up to 3 pi puts the point on an arm, up to the square of side 1/2 beside it.
        angle = np.linspace(0, 3 * np.pi, 2000)[:, None]
        distances = [
            np.min(
                np.maximum(
                    np.abs(sign * x - 0.25 + np.cos(angle) * angle),
                    np.abs(sign * y - 0.25 - np.sin(angle) * angle),
                ),
                axis=0,
            )
            for sign in (1, -1)
        ]
        assert np.minimum(*distances).max() < 0.26
        assert 0.45 < np.mean(distances[0] < distances[1]) < 0.55

    def test_pinwheel(self):
        points = drawn("pinwheel").train.inputs / 2
        radius, angle = np.linalg.norm(points, axis=1), np.arctan2(*points.T[::-1])
        # Unwound by its own radius, each point lies near one of five rays.
        ray = 5 * (angle + 0.25 * np.exp(radius)) / (2 * np.pi)
        near = np.abs(ray - np.rint(ray))
        assert np.median(near) < 0.08
        counts = np.bincount(np.rint(ray).astype(int) % 5)
        assert np.abs(counts - 4000).max() < 5 * np.sqrt(4000)
        squares = radius**2
        error = squares.std() / np.sqrt(len(squares))
        assert 5 * error < 0.03
        assert abs(squares.mean() - 1.1) < 5 * error  # 1 + 0.3^2 + 0.1^2


@pytest.mark.parametrize("name", NOISY)
def test_noise_is_in_the_coordinates_of_the_points(name):
    """More noise adds its variance to each coordinate, whatever the scale of the shape."""
    options = {"num_examples": 50_000, "num_test": 1}
    quiet = drawn(name, noise=0.01, **options).train.inputs.var(0)
    loud = drawn(name, noise=1.0, **options).train.inputs.var(0)
    np.testing.assert_allclose(loud - quiet, 1 - 1e-4, atol=0.12)


def test_what_is_not_known_is_none(tmp_path):
    assert true_log_density(section("two-moons")) is None
    assert true_score(section("mnist-5k")) is None
    assert true_log_density(section("gaussian", path=str(tmp_path))) is None
    assert LOG_DENSITIES.keys() <= data.BUILTINS.keys()
    assert SCORES.keys() <= LOG_DENSITIES.keys()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"name": "circles", "noise": 0}, "data.noise"),
        ({"name": "circles", "noise": -0.1}, "data.noise"),
        ({"name": "rings", "num_examples": 0}, "data.num_examples"),
        ({"name": "rings", "num_test": 1.5}, "data.num_test"),
        ({"name": "checkerboard", "noise": 0.1}, "data.noise"),
        ({"name": "gaussian", "correlation": 1}, "data.correlation"),
        ({"name": "gaussian", "dimensions": 0}, "data.dimensions"),
        ({"name": "two-moons", "seed": -1}, "data.seed"),
    ],
)
def test_bad_options(options, key):
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        tiny(data=options)


def test_more_points_than_memory_is_refused_before_they_are_drawn():
    with pytest.raises(DataError, match=r"data\.num_examples.*1 GiB"):
        drawn("gaussian", num_examples=10_000_000, dimensions=4096)


def test_scaling_is_one_number_or_one_a_coordinate():
    assert len(drawn("rings", mean=[0.5, 0.1], std=2).train) == 20_000
    with pytest.raises(DataError, match="2 channels"):
        drawn("rings", mean=[0.5, 0.1, 0.2])
