"""Initialisers count the fan by the layout and draw the same function in every one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import conv
from models.conv import ConvLayout, transpose_axes

VARIANCES = {
    "glorot_uniform": 2 / (9 * 20 + 9 * 60),
    "glorot_normal": 2 / (9 * 20 + 9 * 60),
    "lecun_uniform": 1 / (9 * 20),
    "lecun_normal": 1 / (9 * 20),
    "he_uniform": 2 / (9 * 20),
    "he_normal": 2 / (9 * 20),
}


@pytest.mark.parametrize("name", VARIANCES)
def test_variance_and_layout(name):
    initializer = getattr(conv, name)
    canonical = initializer(None)(jax.random.key(0), (3, 3, 20, 60))
    assert canonical.dtype == jnp.float32
    variances = np.mean(np.square(canonical, dtype=np.float64))
    # 10800 draws: the relative error of a variance is about sqrt(2 / 10800) = 0.014.
    assert abs(variances / VARIANCES[name] - 1) < 0.07
    for kernel in ("OIHW", "WIHO", "IHWO"):
        layout = ConvLayout("NHWC", kernel, "NHWC")
        sizes = {"H": 3, "W": 3, "I": 20, "O": 60}
        drawn = initializer(layout)(jax.random.key(0), [sizes[letter] for letter in kernel])
        np.testing.assert_array_equal(transpose_axes(drawn, kernel, "HWIO"), canonical)


def test_bad_shape():
    with pytest.raises(ValueError, match="axes 'HWIO'"):
        conv.he_normal()(jax.random.key(0), (3, 4, 5))
