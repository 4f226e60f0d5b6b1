"""How many colours a function takes, and what planning them costs."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from local_functions import RECTANGULAR, SQUARE, attention, conv_net, images, kernel, unet

import jacreg
from jacreg._coloring import _plan
from jacreg._coloring._reading import dependence_of


@pytest.mark.parametrize(("depth", "expected"), [(1, 12), (2, 27), (3, 48), (4, 75)])
@pytest.mark.parametrize("size", [16, 32])
def test_counts_of_convolutions_do_not_grow_with_the_image(depth, expected, size):
    def net(x):
        return conv_net(x, depth)

    abstract = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    assert jacreg.color(net, abstract).num_colors == expected
    norm = jacreg.color(net, abstract, quantity="frobenius")
    assert norm.num_colors == (2 * depth + 1) ** 2 * 3


def test_counts_of_named_cases():
    def color(fn, shape):
        return jacreg.color(fn, jax.ShapeDtypeStruct(shape, jnp.float32))

    assert color(conv_net, (1, 32, 32, 3)).num_colors == 48
    assert color(conv_net, (1, 128, 128, 3)).num_colors == 48
    assert color(unet, (1, 64, 64, 1)).num_colors <= 60
    assert color(lambda x: x**2, (1, 32, 32, 3)).num_colors == 1
    assert color(SQUARE["strided_then_transposed"], (1, 8, 8, 3)).num_colors <= 33
    assert color(SQUARE["strided_then_transposed"], (1, 64, 64, 3)).num_colors <= 36
    # One dimension, and three.
    line = kernel((3, 2, 2))
    one = color(
        lambda x: jax.lax.conv_general_dilated(
            x, line, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        ),
        (1, 40, 2),
    )
    assert one.num_colors == 2 * 2
    volume = kernel((3, 3, 3, 1, 1))
    three = color(
        lambda x: jax.lax.conv_general_dilated(
            x, volume, (1, 1, 1), "SAME", dimension_numbers=("NCDHW", "DHWIO", "NCDHW")
        ),
        (1, 1, 9, 9, 9),
    )
    assert three.num_colors == 2**3


def test_dense_functions_say_so(x64):
    coloring = jacreg.color(attention, images())
    assert coloring.is_dense
    assert "dense" in repr(coloring)
    flat = jacreg.color(RECTANGULAR["dense"], images(), quantity="frobenius")
    assert flat.is_dense
    assert flat.num_colors == 4


def test_asdex_reads_the_same_pattern(x64):
    asdex = pytest.importorskip("asdex", exc_type=ImportError)
    xs = images((1, 12, 12, 3))
    pattern = asdex.jacobian_sparsity(lambda x: conv_net(x[None])[0], xs[0])
    ours = jacreg._coloring._reading.dependence_of(jacreg.linearize(conv_net, xs))[0]
    theirs = np.asarray(pattern.todense()) != 0
    np.testing.assert_array_equal(ours.matrix().toarray(), theirs)


def test_planning_a_large_image_needs_little_memory():
    """In a process of its own, so that the peak is the plan's."""
    code = (
        "import resource, jax, jax.numpy as jnp, jacreg, sys; sys.path.insert(0, 'tests')\n"
        "from local_functions import conv_net\n"
        "jax.make_jaxpr(conv_net)(jnp.ones((1, 8, 8, 3)))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "c = jacreg.color(conv_net, jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32))\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(c.num_colors, (after - before) // 1024)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert int(out[0]) == 48
    assert int(out[1]) < 300, "megabytes"


def _layers(count):
    kernels = np.random.default_rng(0).normal(size=(count, 3, 3, 2, 2)).astype(np.float32)

    def fn(xs):
        for weights in kernels:
            xs = jnp.tanh(
                jax.lax.conv_general_dilated(
                    xs, weights, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
            )
        return xs

    return fn


def _scanned(xs):
    return jax.lax.scan(lambda c, w: (jnp.sin(c) * w + c, None), xs, jnp.ones(4))[0]


CONCRETE = {
    "one convolution": (_layers(1), (2, 9, 9, 2)),
    "six convolutions": (_layers(6), (2, 20, 20, 2)),
    "dense": (lambda xs: jnp.sin(jnp.tanh(xs @ np.ones((7, 7)))), (2, 7)),
    "norm": (lambda xs: jax.nn.standardize(xs, axis=-1) * xs, (2, 5, 6)),
    "neighbours": (lambda xs: xs * jnp.roll(xs, 1, 1) + jax.nn.softplus(xs), (2, 8)),
    "scan": (_scanned, (2, 6)),
}


@pytest.mark.parametrize("quantity", [jacreg.divergence, jacreg.frobenius_squared])
@pytest.mark.parametrize("name", CONCRETE)
def test_a_concrete_batch_compiles_whole_products_alone(name, quantity, compilations):
    """Not the network, operation by operation; and a dense plan is not tried with n products."""
    fn, shape = CONCRETE[name]
    xs = jnp.ones(shape)
    compilations.clear()
    jacreg.color(fn, xs, quantity=quantity)
    assert len(compilations) <= 2


def patches(xs):
    """A vision transformer in small: patches to tokens, which are mixed and added to themselves."""
    numbers = ("NHWC", "HWIO", "NHWC")
    kernel = jnp.ones((4, 4, 3, 5))
    tokens = jax.lax.conv_general_dilated(xs, kernel, (4, 4), "SAME", dimension_numbers=numbers)
    tokens = tokens.reshape(xs.shape[0], -1, 5)
    return (tokens + jnp.tanh(jnp.ones((tokens.shape[1],) * 2) @ tokens)).mean(1)


def test_tokens_that_see_all_patches_see_all_of_each_axis():
    """No matrix over all pixels of an image: it would have the square of their number."""
    lin = jacreg.linearize(patches, jnp.ones((1, 32, 24, 3)))
    relation, *_ = dependence_of(lin)
    assert sorted(f.inputs for f in relation.factors) == [(0,), (1,), (2,)]


def test_too_many_that_are_seen_together_are_taken_to_see_all(monkeypatch):
    def plus(xs):
        return xs + jnp.roll(xs, 1, 1) + jnp.roll(xs, 1, 2)

    relation, *_ = dependence_of(jacreg.linearize(plus, jnp.ones((1, 9, 9))))
    assert _plan.plan_columns(relation).num_colors < 12
    monkeypatch.setattr(_plan, "_MOST_PAIRS", 10)
    assert _plan.plan_columns(relation).num_colors == 81
