"""Camuto et al. 2020 as a paper: noise against its explicit form, in tiny networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train.reproduce import Asked, dense
from train.reproduce.papers.camuto2020 import _measure
from train.reproduce.papers.camuto2020._measure import (
    SIGMAS,
    compare_losses,
    draw,
    learn_frequencies,
    tails,
)

LOSSES = {"width": 6, "epochs": 30, "rate": 1e-2, "pairs": 64}
WAVES = {
    "noise": 0.2,
    "frequencies": [1, 2, 3],
    "points": 64,
    "width": 24,
    "steps": 800,
    "rate": 1e-2,
}


def test_noise_tends_to_the_second_order():
    found = compare_losses(Asked(0), task="regression", noise=0.0, batch=404, **LOSSES)
    error = found["ratio_error"][-1]
    assert 5 * error <= 0.1
    assert abs(found["ratio"][-1] - found["second_order"]) <= 5 * error
    assert len(found["ratio"]) == len(SIGMAS)
    assert np.isclose(found["terms"].sum(), 1)


def test_noise_in_training_is_left_out_when_broken(monkeypatch):
    asked = []

    def stop(**options):
        asked.append(options["noise"])
        raise InterruptedError

    monkeypatch.setattr(_measure, "trained", stop)
    for broken in (False, True):
        with pytest.raises(InterruptedError):
            compare_losses(
                Asked(0, broken=broken), task="regression", noise=0.5, batch=404, **LOSSES
            )
    assert asked == [0.5, 0.0]


def test_share_of_a_band():
    grid = np.linspace(-1, 1, 64, endpoint=False)[:, None]
    waves = np.concatenate([np.sin(5 * np.pi * grid), 2 * np.cos(11 * np.pi * grid) + 3], axis=1)
    # A wave is in the band at its cycles and, by the window, a cycle to either side; cosines have
    # no line in them, sines of an interval little.
    assert np.isclose(_measure._share(waves, np.arange(10, 13)), 4 / 5, rtol=5e-3)
    ramps = waves + 100 * grid * np.asarray([1.0, -2.0])
    assert np.isclose(
        _measure._share(ramps, np.arange(10, 13)), _measure._share(waves, np.arange(10, 13))
    )


def test_frequencies():
    clean = learn_frequencies(Asked(0), method="clean", **WAVES)
    assert np.allclose(clean["learned"], 1, atol=0.05)
    assert clean["error"] < 0.02
    for method in ("noise", "explicit"):
        found = learn_frequencies(Asked(0), method=method, **WAVES)
        assert found["high"] < found["low"] - 0.1
        assert found["high"] < clean["high"] - 0.1
    broken = learn_frequencies(Asked(0, broken=True), method="explicit", **WAVES)
    assert np.array_equal(broken["learned"], clean["learned"])


def test_every_tail_ends_at_the_output():
    layers = dense.initial(jax.random.key(0), (3, 5, 4, 2))
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(7, 3)), jnp.float32)
    lins = tails(layers, xs)
    assert [lin.xs.shape for lin in lins] == [(7, 3), (7, 5), (7, 4)]
    for lin in lins:
        assert np.allclose(lin.value, dense.outputs(layers, xs, "elu"), atol=1e-6)


def test_noise_on_the_input_and_the_hidden_layers_alone():
    noise = draw(jax.random.key(0), (3, 5, 4, 2), 6, 0.5)
    assert [each.shape for each in noise] == [(6, 3), (6, 5), (6, 4)]
