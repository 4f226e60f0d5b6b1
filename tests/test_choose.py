"""`choose` takes what is exact within the budget, else what varies least for its time."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from local_functions import kernel

import jacreg
from jacreg import _choose

XS = jnp.asarray(np.random.default_rng(0).normal(size=(4, 24)), jnp.float32)
RADIUS = 5


def local(xs):
    """Each output from the inputs within a radius: radius + 1 colours."""
    weights = jnp.linspace(-0.5, 1.0, 2 * RADIUS + 1)
    padded = jnp.pad(xs, ((0, 0), (RADIUS, RADIUS)))
    shifted = [w * padded[:, k : k + xs.shape[1]] for k, w in enumerate(weights)]
    return jnp.tanh(sum(shifted))


def classifier(xs):
    return jnp.tanh(xs @ kernel((24, 10)))


def test_a_local_field_is_coloured():
    method = jacreg.choose(local, XS, quantity="divergence", budget=20)
    assert isinstance(method, jacreg.Coloring)
    assert "chosen: Coloring(6 colours)" in method.report
    assert "beyond the budget" in method.report
    lin = jacreg.linearize(local, XS)
    np.testing.assert_allclose(
        jacreg.divergence(lin, method), jacreg.divergence(lin), rtol=1e-3, atol=1e-4
    )


def test_a_small_budget_means_probes():
    method = jacreg.choose(local, XS, quantity="divergence", budget=4)
    assert not isinstance(method, jacreg.Exact | jacreg.Coloring)
    assert "no exact method within the budget" in method.report
    lin = jacreg.linearize(local, XS)
    assert jacreg.divergence(lin, method, key=jax.random.key(0)).shape == (4,)


@pytest.mark.parametrize("budget", [3, 24])
def test_an_estimate_without_variance_here_is_not_exact(budget):
    """A last layer of zeros behind a sort, which has no closed form: every sample is zero."""
    zeros = jnp.zeros((10, 24))
    method = jacreg.choose(
        lambda xs: jnp.sort(classifier(xs), 1) @ zeros, XS, quantity="divergence", budget=budget
    )
    lines = [line for line in method.report.splitlines() if " exact  " in line]
    assert all("Exact(" in line for line in lines)
    if budget < 24:
        assert "no variance at this point" in method.report
    else:
        assert method == jacreg.Exact()


def test_a_closed_form_is_within_any_budget():
    square = jnp.zeros((10, 24))
    method = jacreg.choose(
        lambda xs: classifier(xs) @ square, XS, quantity=jacreg.divergence, budget=1
    )
    assert method == jacreg.Auto()
    with pytest.raises(ValueError, match=r"quantity must be one of.*jacreg\.divergence"):
        jacreg.choose(classifier, XS, quantity=jacreg.gram, budget=1)


def test_a_classifier_has_few_rows(monkeypatch):
    # All calls take equally long: the variance alone decides.
    monkeypatch.setattr(_choose.time, "perf_counter", itertools.count().__next__)
    method = jacreg.choose(classifier, XS, quantity="frobenius", budget=10)
    assert method == jacreg.Exact()
    assert hash(method) == hash(jacreg.Exact()), "the report is no part of the value"
    assert method.report
    one = jacreg.choose(classifier, XS, quantity="frobenius", budget=1)
    assert isinstance(one, jacreg.Projection)
    assert one.mode == "reverse", "ten rows vary less than 24 columns"


def test_laplacian_and_reports():
    def energy(xs):
        return (jnp.tanh(local(xs)) ** 2).sum(-1)

    method = jacreg.choose(energy, XS, quantity="laplacian", budget=12)
    jacreg.laplacian(jacreg.linearize(energy, XS), method, key=jax.random.key(0))
    assert method.report.startswith("choose: laplacian")
    assert jacreg.Exact().report == ""


def test_bad_input():
    with pytest.raises(ValueError, match="quantity"):
        jacreg.choose(classifier, XS, quantity="norm", budget=3)
    with pytest.raises(ValueError, match="at least 1"):
        jacreg.choose(classifier, XS, quantity="frobenius", budget=0)
    with pytest.raises(ValueError, match="shape"):
        jacreg.choose(classifier, XS, quantity="divergence", budget=3)
    with pytest.raises(ValueError, match="xs holds no array"):
        jacreg.choose(jnp.sin, None, quantity="divergence", budget=4)
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda xs: jacreg.choose(classifier, xs, quantity="frobenius", budget=3))(XS)
