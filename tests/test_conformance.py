"""Every quantity by every method on every function, against dense float64 Jacobians at 1e-9.

The whole product takes minutes and is marked slow; one function for each pair runs always.
"""

import pytest
from functions import BY_NAME
from pairs_automatic import PAIRS
from quantities import conform, problem

pytestmark = pytest.mark.usefixtures("x64")


def sampled(pair):
    """A function that the pair fits, another for each pair."""
    names = [name for name in BY_NAME if not problem(name).empty]
    start = 7 * list(PAIRS).index(pair.name) % len(names)
    return next(n for n in names[start:] + names[:start] if pair.fits(problem(n)))


@pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))
def test_one_function_for_each_pair(pair):
    conform(pair, sampled(pair))


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("pair", PAIRS.values(), ids=list(PAIRS))
def test_every_function_for_each_pair(pair, name):
    if not pair.fits(problem(name)):
        pytest.skip("the quantity has no meaning here")
    conform(pair, name)
