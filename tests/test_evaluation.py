"""Evaluation: the padded last batch, exact Jacobian norms, noise, FGSM and PGD, decision cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import evaluation, figures, records
from train.batches import Batches
from train.data import Examples
from train.sections import Evaluation

RNG = np.random.default_rng(0)
WEIGHTS = jnp.asarray(RNG.normal(size=(12, 3)), jnp.float32)
PIXELS = jnp.asarray(RNG.uniform(size=(20, 2, 2, 3)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, 3, 20))


def logits(weights, xs):
    return jnp.tanh(2 * xs.reshape(len(xs), -1) @ weights)


MODEL = evaluation.Classifier(
    logits, pixels=lambda raw: raw.astype(jnp.float32) / 255, normalize=lambda xs: (xs - 0.5) / 2
)


def raw(count):
    inputs = RNG.integers(0, 256, (count, 2, 2, 3), np.uint8)
    return Examples(inputs, RNG.integers(0, 3, count).astype(np.int32))


class TestBatches:
    @pytest.mark.parametrize(("count", "size"), [(10, 4), (10, 5), (3, 8), (1, 1)])
    def test_padding_is_masked_out(self, count, size):
        examples = raw(count)
        seen = []
        for inputs, labels, mask in Batches(size).of(examples, "rows"):
            assert len(inputs) == len(labels) == len(mask) == min(size, count)
            seen.append(inputs[mask])
        np.testing.assert_array_equal(np.concatenate(seen), examples.inputs)

    @pytest.mark.parametrize("size", [3, 7, 50])
    def test_the_mean_does_not_depend_on_the_batch_size(self, size):
        examples = raw(7)

        def measure(inputs, labels, number):
            return {"first": inputs[:, 0, 0, 0], "label": labels}

        found = Batches(size).mean(measure, examples, "rows")
        assert found["first"] == pytest.approx(examples.inputs[:, 0, 0, 0].mean())
        assert found["label"] == pytest.approx(examples.targets.mean())


class TestClassifier:
    def test_accuracy_and_loss(self):
        examples = raw(11)
        clean = evaluation.make_clean(MODEL)
        found = Batches(4).mean(
            lambda inputs, labels, _: clean(WEIGHTS, inputs, labels), examples, "accuracy"
        )
        outputs = np.asarray(logits(WEIGHTS, (examples.inputs / np.float32(255) - 0.5) / 2))
        assert found["accuracy"] == np.mean(outputs.argmax(1) == examples.targets)
        chosen = jax.nn.log_softmax(outputs)[np.arange(11), examples.targets]
        assert found["loss"] == pytest.approx(-float(chosen.mean()), rel=1e-5)

    def test_the_jacobian_norm_is_that_of_the_model_input(self):
        examples = raw(7)
        xs = (examples.inputs / np.float32(255) - 0.5) / 2
        jacobians = jax.vmap(jax.jacobian(lambda x: logits(WEIGHTS, x[None])[0]))(xs)
        expected = np.sqrt((np.asarray(jacobians) ** 2).sum((1, 2, 3, 4))).mean()
        found = evaluation.jacobian_norm(MODEL, WEIGHTS, examples, Batches(3))
        assert found == pytest.approx(float(expected), rel=1e-5)

    def test_robustness_names_and_order(self):
        settings = Evaluation(noise=(0.1, 0.5), fgsm=(0.05,), pgd=(0.05,), pgd_steps=5)
        examples = Examples(RNG.integers(0, 256, (40, 2, 2, 3), np.uint8), None)
        outputs = logits(WEIGHTS, (examples.inputs / np.float32(255) - 0.5) / 2)
        examples = Examples(examples.inputs, np.asarray(outputs.argmax(1)))
        found = evaluation.robustness(
            MODEL, WEIGHTS, examples, settings, jax.random.key(0), Batches(settings.batch_size)
        )
        assert list(found) == [
            "accuracy_noise_0.1", "accuracy_noise_0.5", "accuracy_fgsm_0.05", "accuracy_pgd_0.05",
        ]  # fmt: skip
        # On its own labels the model is perfect until it is disturbed.
        assert all(0 <= value <= 1 for value in found.values())
        assert found["accuracy_noise_0.5"] < found["accuracy_noise_0.1"] < 1
        assert found["accuracy_pgd_0.05"] <= found["accuracy_fgsm_0.05"] < 1
        again = evaluation.robustness(
            MODEL, WEIGHTS, examples, settings, jax.random.key(0), Batches(settings.batch_size)
        )
        assert again == found


def predict(pixels):
    return logits(WEIGHTS, pixels)


def loss_of(pixels):
    chosen = jax.nn.log_softmax(predict(pixels))[jnp.arange(len(pixels)), LABELS]
    return float(-chosen.mean())


class TestAttacks:
    EPSILON = 0.06

    def attacked(self):
        key = jax.random.key(0)
        fgsm = evaluation.fgsm(predict, PIXELS, LABELS, self.EPSILON)
        pgd = evaluation.pgd(predict, PIXELS, LABELS, self.EPSILON, 20, key)
        return fgsm, pgd

    def test_they_stay_in_the_ball_and_in_the_pixel_range(self):
        for attacked in self.attacked():
            assert float(jnp.abs(attacked - PIXELS).max()) <= self.EPSILON + 1e-6
            assert float(attacked.min()) >= 0
            assert float(attacked.max()) <= 1

    @pytest.mark.parametrize("attack", [evaluation.pgd, evaluation.pgd_l2])
    def test_one_program_serves_all_steps_batches_and_weights(self, attack):
        traced = []

        def counted(weights, xs):
            traced.append(xs.shape)
            return logits(weights, xs)

        for scale in (1.0, 2.0):
            fn = jax.tree_util.Partial(counted, jax.tree.map(lambda leaf: leaf * scale, WEIGHTS))  # noqa: B023
            for epsilon in (0.1, 0.2):
                attack(fn, PIXELS, LABELS, epsilon, 3, jax.random.key(0))
        assert len(traced) == 1

        def whole(pixels):
            return attack(predict, pixels, LABELS, 0.1, 3, jax.random.key(0))

        # XLA runs convolutions inside a loop several times slower on a CPU.
        text = str(jax.make_jaxpr(whole)(PIXELS))
        assert "while[" not in text
        assert "scan[" not in text

    @pytest.mark.parametrize("attack", [evaluation.pgd, evaluation.pgd_l2])
    def test_a_signal_waits_for_one_step_alone(self, attack, monkeypatch):
        waited = []
        monkeypatch.setattr(jax, "block_until_ready", waited.append)
        found = attack(predict, PIXELS, LABELS, 0.1, 3, jax.random.key(0))
        assert len(waited) == 3
        assert waited[-1] is found

    @pytest.mark.parametrize("attack", [evaluation.pgd, evaluation.pgd_l2])
    def test_against_the_formula(self, attack):
        epsilon, steps, key = 0.1, 4, jax.random.key(3)
        pixels = np.asarray(PIXELS, np.float64)

        def ball(moved):
            if attack is evaluation.pgd:
                return np.clip(
                    moved, np.maximum(pixels - epsilon, 0), np.minimum(pixels + epsilon, 1)
                )
            change = moved - pixels
            return np.clip(pixels + change * np.minimum(1, epsilon / length(change)), 0, 1)

        def length(values):
            return np.sqrt((values**2).sum((1, 2, 3), keepdims=True))

        if attack is evaluation.pgd:
            drawn = jax.random.uniform(key, PIXELS.shape, PIXELS.dtype, -epsilon, epsilon)
            moved = ball(pixels + np.asarray(drawn))
        else:
            drawn = np.asarray(jax.random.normal(key, PIXELS.shape, PIXELS.dtype), np.float64)
            moved = ball(pixels + epsilon * drawn / length(drawn))

        def loss(xs):
            return -jax.nn.log_softmax(predict(xs))[jnp.arange(len(xs)), LABELS].sum()

        for _ in range(steps):
            slope = np.asarray(jax.grad(loss)(jnp.asarray(moved, PIXELS.dtype)), np.float64)
            slope = np.sign(slope) if attack is evaluation.pgd else slope / length(slope)
            moved = ball(moved + 2.5 * epsilon / steps * slope)
        found = attack(predict, PIXELS, LABELS, epsilon, steps, key)
        np.testing.assert_allclose(found, moved, atol=2e-5)

    def test_inputs_that_are_no_pixels_are_not_clipped(self):
        xs, labels = jnp.full((40, 3), -3.0), jnp.zeros(40, jnp.int32)
        slope = jnp.asarray([1.0, -2.0, 0.5])
        free = (-np.inf, np.inf)

        def logits(xs):
            return jnp.stack([-xs @ slope, xs @ slope], -1)

        worst = xs + 0.25 * jnp.sign(slope)
        found = evaluation.fgsm(logits, xs, labels, 0.25, free)
        np.testing.assert_allclose(found, worst, rtol=1e-6)
        key = jax.random.key(0)
        found = evaluation.pgd(logits, xs, labels, 0.25, 20, key, free)
        np.testing.assert_allclose(found, worst, rtol=1e-6)
        noised = evaluation.white_noise(xs, 0.25, key, free)
        assert float(jnp.min(noised)) < -3.2

    def test_they_raise_the_loss_pgd_most(self):
        fgsm, pgd = self.attacked()
        assert loss_of(PIXELS) < loss_of(fgsm) <= loss_of(pgd) + 1e-4

    def test_fgsm_is_the_best_linf_step_for_a_linear_loss(self):
        gradient = jax.grad(lambda p: p.sum())(PIXELS)
        linear = lambda pixels: jnp.stack([pixels.sum((1, 2, 3)), jnp.zeros(len(pixels))], 1)  # noqa: E731
        attacked = evaluation.fgsm(linear, PIXELS, jnp.ones(20, int), 0.1)
        expected = jnp.clip(PIXELS + 0.1 * jnp.sign(gradient), 0, 1)
        np.testing.assert_allclose(attacked, expected, rtol=1e-6)

    def test_against_foolbox(self):
        foolbox = pytest.importorskip("foolbox")
        from eagerpy import astensor

        model = foolbox.models.JAXModel(predict, bounds=(0, 1))
        attack = foolbox.attacks.FGSM()
        criterion = foolbox.criteria.Misclassification(astensor(LABELS))
        _, theirs, _ = attack(model, astensor(PIXELS), criterion, epsilons=self.EPSILON)
        ours, pgd = self.attacked()
        np.testing.assert_allclose(ours, theirs.raw, atol=1e-6)
        attack = foolbox.attacks.LinfPGD(rel_stepsize=2.5 / 20, steps=20, random_start=False)
        _, theirs, _ = attack(model, astensor(PIXELS), criterion, epsilons=self.EPSILON)
        assert loss_of(pgd) == pytest.approx(loss_of(theirs.raw), rel=0.02)

    def test_white_noise(self):
        grey = jnp.full((50, 8, 8, 1), 0.5)
        noised = evaluation.white_noise(grey, 0.1, jax.random.key(0))
        assert float(noised.std()) == pytest.approx(0.1, rel=0.05)
        wild = evaluation.white_noise(grey, 5.0, jax.random.key(0))
        assert (float(wild.min()), float(wild.max())) == (0, 1)


class TestDecisionCells:
    CORNERS = RNG.uniform(size=(3, 2, 2, 3)).astype(np.float32)

    def test_the_plane_goes_through_the_corners(self):
        points, spots, extent = evaluation.plane(self.CORNERS, 5)
        assert points.shape == (25, 2, 2, 3)
        flat = self.CORNERS.reshape(3, -1)
        distances = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
        in_plane = np.linalg.norm(spots[:, None] - spots[None], axis=-1)
        np.testing.assert_allclose(in_plane, distances, atol=1e-5)
        left, right, bottom, top = extent
        assert ((spots[:, 0] > left) & (spots[:, 0] < right)).all()
        assert ((spots[:, 1] > bottom) & (spots[:, 1] < top)).all()
        # Every point of the grid is an affine combination of the corners.
        centered = points.reshape(25, -1) - flat[0]
        assert np.linalg.matrix_rank(centered, tol=1e-4) == 2

    def test_each_corner_shows_its_own_class(self, tmp_path):
        flat = jnp.asarray(self.CORNERS.reshape(3, -1))

        def nearest(points):
            points = points.reshape(len(points), 1, -1)
            return -jnp.sum((points - flat) ** 2, -1)

        cells = evaluation.decision_cells(nearest, self.CORNERS, 41, batch_size=100)
        left, right, bottom, top = cells["extent"]
        for label, (across, up) in enumerate(cells["corners"]):
            column = round((across - left) / (right - left) * 40)
            row = round((up - bottom) / (top - bottom) * 40)
            assert cells["classes"][row, column] == label
        cells |= {"labels": np.arange(3), "names": np.asarray(["a", "b", "c"])}
        records.write_arrays(tmp_path / "cells.npz", cells)
        stored = records.read_arrays(tmp_path / "cells.npz")
        drawn = figures.decision_cells({"one": stored, "two": stored}, tmp_path / "cells.png")
        assert drawn.read_bytes()[:4] == b"\x89PNG"
        np.testing.assert_allclose(np.exp(stored["log_probabilities"]).sum(-1), 1, atol=1e-5)
        # A record of an earlier version has the classes alone.
        old = {n: a for n, a in stored.items() if n not in ("log_probabilities", "images")}
        assert figures.decision_cells({"old": old}, tmp_path / "old.png").is_file()

    def test_three_classes(self):
        assert evaluation.three_classes(np.asarray([4, 4, 1, 4, 0, 2])) == [0, 2, 4]
        assert evaluation.three_classes(np.asarray([1, 1, 0])) == [0, 2]


def test_who_watches_hears_of_each_batch():
    heard = []
    batches = Batches(4, watch=lambda *told: heard.append(told))
    batches.mean(lambda inputs, labels, number: {"label": labels}, raw(10), "label")
    assert heard == [("label", 0, 10), ("label", 4, 10), ("label", 8, 10), ("label", 10, 10)]
