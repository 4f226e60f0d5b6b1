"""Layers, adapters, flows, equilibria and what has no pair, each against its own truth."""

import numpy as np
import pytest
from conformance_dynamics import EQUILIBRIUM, FLOW
from conformance_layers import eqx_rows, linen_rows, nnx_rows
from conformance_rows import LIBRARY, LOSSES
from public_calls import PACKAGES

ROWS = {
    "jacreg": lambda: LIBRARY,
    "jacreg.losses": lambda: LOSSES,
    "jacreg.nnx": nnx_rows,
    "jacreg.linen": linen_rows,
    "jacreg.eqx": eqx_rows,
    "jacreg.flow": lambda: FLOW,
    "jacreg.equilibrium": lambda: EQUILIBRIUM,
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("package", ROWS)
def test_rows(package):
    for module in PACKAGES[package][1]:
        pytest.importorskip(module)
    failed = {}
    for name, row in ROWS[package]().items():
        try:
            compared = 0
            for found, truth, *rtol in row():
                found, truth = np.asarray(found), np.asarray(truth)
                assert found.shape == truth.shape
                tolerance = rtol[0] if rtol else 1e-9
                np.testing.assert_allclose(found, truth, rtol=tolerance, atol=1e-9)
                compared += 1
            assert compared
        except Exception as error:  # all of them are wanted, not the first
            failed[name] = f"{type(error).__name__}: {error}"
    assert not failed, "\n".join(f"{name}: {what}" for name, what in failed.items())
