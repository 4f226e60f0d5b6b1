"""The fuzzer of random programs: it sees what is planted, and a minute of it finds nothing."""

import jax
import numpy as np
import pytest

import jacreg
from benchmarks.fuzz import _hold, fuzz
from benchmarks.fuzz._program import write_program

pytestmark = pytest.mark.usefixtures("x64")


def test_a_program_is_its_seed():
    programs = [write_program(seed) for seed in (0, 0, 1)]
    assert programs[0].text == programs[1].text != programs[2].text
    arrays = [p.draw_weights() + p.draw_tables(1) + [p.draw_inputs(0)] for p in programs[:2]]
    for one, other in zip(*arrays, strict=True):
        np.testing.assert_array_equal(one, other)


def test_programs_of_many_kinds_keep_the_batch():
    text = "".join(write_program(seed).text for seed in range(60))
    for operation in ("conv(", "lax.scan", "t[0]", "w[0]", "lax.reshape", "mode="):
        assert operation in text
    program = write_program(3)
    xs = program.draw_inputs(0)
    out = program.function()(xs, program.draw_weights(), program.draw_tables(0))
    assert out.shape == xs.shape


def test_a_reshape_takes_a_batch_of_any_length():
    """Of one number an example, [N] to [N], too."""
    program = write_program(210046)
    assert "lax.reshape(a0," in program.text
    xs = program.draw_inputs(0)[:1]
    assert program.function()(xs, program.draw_weights(), []).shape == xs.shape


def test_what_is_planted_is_seen(monkeypatch):
    """Quantities that are wrong by a thousandth, or raise."""
    program = next(p for p in map(write_program, range(40)) if not p.tables)
    right = jacreg.jacobian, jacreg.divergence, jacreg.diagonal, jacreg.frobenius_squared

    def wrong(quantity):
        def scaled(lin, method):
            return 1.001 * quantity(lin, method)

        return scaled

    def broken(lin, method):
        raise RuntimeError("planted")

    for quantity in right:
        monkeypatch.setattr(jacreg, quantity.__name__, wrong(quantity))
    finds = _hold.hold(program)
    assert len(finds) >= 3
    assert program.text in str(finds[0])
    for quantity in right:
        monkeypatch.setattr(jacreg, quantity.__name__, broken)
    assert {"RuntimeError: planted" in find.what for find in _hold.hold(program)} == {True}


@pytest.mark.slow
def test_a_minute_finds_nothing():
    found = fuzz(60, first_seed=int(np.random.default_rng().integers(10**6)))
    assert found["programs"] >= 2
    assert not found["finds"], "\n".join(map(str, found["finds"]))
    jax.clear_caches()
