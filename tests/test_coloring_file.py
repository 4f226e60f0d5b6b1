"""Colourings saved and loaded: the same plan, the same refusals, one error for other files."""

import io
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacreg

KERNEL = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 2, 2)))


def convolution(xs):
    dims = ("NHWC", "HWIO", "NHWC")
    return jnp.tanh(
        jax.lax.conv_general_dilated(
            xs, KERNEL.astype(xs.dtype), (1, 1), "SAME", dimension_numbers=dims
        )
    )


def tree(xs):
    return jnp.sin(xs["a"]), jnp.roll(xs["b"], 1, axis=1) * xs["b"]


def dense(xs):
    return jnp.sort(xs, axis=1)


def narrow(xs):
    return xs[:, 1:] - xs[:, :-1]


CASES = {
    "convolution": (convolution, jnp.ones((2, 6, 6, 2)), "divergence"),
    "convolution norm": (convolution, jnp.ones((2, 6, 6, 2)), "frobenius"),
    "tree": (tree, {"a": jnp.ones((2, 3)), "b": jnp.ones((2, 2, 2))}, "divergence"),
    "dense": (dense, jnp.ones((2, 4)), "divergence"),
    "rectangular": (narrow, jnp.ones((2, 9)), "jacobian"),
    "laplacian": (lambda xs: jnp.sum(jnp.sin(xs) ** 2, axis=1), jnp.ones((2, 9)), "laplacian"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_loaded_is_what_was_saved(case, tmp_path):
    fn, xs, quantity = CASES[case]
    made = jacreg.color(fn, xs, quantity=quantity)
    # The name is kept as it is given, and an older file is replaced.
    path = tmp_path / "plan.of-mine"
    path.write_text("older")
    made.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["plan.of-mine"]
    found = jacreg.Coloring.load(str(path))
    assert found == made
    assert hash(found) == hash(made)
    assert repr(found) == repr(made)
    assert found.fingerprint == made.fingerprint
    assert (found.place, found.how, found.dense_because) == (
        made.place,
        made.how,
        made.dense_because,
    )
    assert not found.colors.flags.writeable
    a, b = found.relation.matrix(), made.relation.matrix()
    np.testing.assert_array_equal(a.toarray(), b.toarray())
    assert found.relation.rows_independent == made.relation.rows_independent


def test_a_loaded_plan_serves_its_function_and_no_other(tmp_path):
    xs = jax.random.normal(jax.random.key(0), (2, 6, 6, 2))
    jacreg.color(convolution, xs).save(tmp_path / "plan.npz")
    plan = jacreg.Coloring.load(tmp_path / "plan.npz")
    lin = jacreg.linearize(convolution, xs)
    exact = jacreg.divergence(lin, jacreg.Exact())
    np.testing.assert_allclose(jacreg.divergence(lin, plan), exact, rtol=1e-4)
    norm = jacreg.color(convolution, xs, quantity="frobenius")
    norm.save(tmp_path / "norm.npz")
    loaded = jacreg.Coloring.load(tmp_path / "norm.npz")
    sparse = jacreg.jacobian(lin, loaded, sparse=True)
    np.testing.assert_allclose(sparse.data, jacreg.jacobian(lin, norm, sparse=True).data)
    other = jacreg.linearize(lambda xs: jnp.roll(convolution(xs), 1, axis=1), xs)
    with pytest.raises(jacreg.ColoringError, match="colouring"):
        jacreg.divergence(other, plan)


def saved(tmp_path):
    path = tmp_path / "plan.npz"
    jacreg.color(narrow, jnp.ones((2, 9)), quantity="jacobian").save(path)
    return path


def changed(path, **arrays):
    with np.load(path) as data:
        arrays = dict(data) | arrays
    with path.open("wb") as stream:
        np.savez(stream, **arrays)


def header(path, old, new):
    with np.load(path) as data:
        text = str(data["header"])
    assert old in text
    changed(path, header=np.array(text.replace(old, new)))


def array_file(save, *arrays, **named):
    """What NumPy would write."""
    buffer = io.BytesIO()
    save(buffer, *arrays, **named)
    return buffer.getvalue()


BAD = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a byte": lambda path: path.write_bytes(
        (raw := bytearray(path.read_bytes())).__setitem__(len(raw) // 3, raw[len(raw) // 3] ^ 255)
        or bytes(raw)
    ),
    "text": lambda path: path.write_text("colours"),
    "pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
    "an array": lambda path: path.write_bytes(array_file(np.save, np.ones(3))),
    "other arrays": lambda path: path.write_bytes(array_file(np.savez, a=np.ones(3))),
    "objects": lambda path: changed(path, colors=np.array([None, 1], dtype=object)),
    "version": lambda path: header(path, '"version": 1', '"version": 2'),
    "quantity": lambda path: header(path, '"quantity": "jacobian"', '"quantity": "rank"'),
    "fingerprint": lambda path: header(path, '"fingerprint": ["', '"fingerprint": ["0'),
    "no json": lambda path: header(path, "{", "["),
    "colours": lambda path: changed(path, colors=np.arange(9)),
    "fewer colours": lambda path: changed(path, colors=np.zeros(3, np.int32)),
    "indices": lambda path: changed(path, indices0=np.full(16, 99)),
}


@pytest.mark.parametrize("name", BAD)
def test_a_torn_or_foreign_file_gives_one_error(name, tmp_path):
    path = saved(tmp_path)
    BAD[name](path)
    with pytest.raises(ValueError, match=r"Coloring.load: .*plan.npz.*make the colouring again"):
        jacreg.Coloring.load(path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        jacreg.Coloring.load(tmp_path / "none.npz")


def test_a_save_that_fails_leaves_the_older_file(tmp_path, monkeypatch):
    path = saved(tmp_path)
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space"):
        jacreg.Coloring.load(path).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
