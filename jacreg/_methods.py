"""How to compute a quantity: small frozen objects that a config can name.

Each is hashable, so jit treats it as static, and each says what it costs. Which
quantity accepts which method stands with the quantity; a pair that does not fit
raises a TypeError that names those that do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax

from ._checks import check_count, check_positive
from ._keys import check_key

Distribution = Literal["sphere", "gaussian", "rademacher"]
DISTRIBUTIONS = ("sphere", "gaussian", "rademacher")


class Method:
    """Base of every method.

    Attributes:
        report: why `choose` picked it, empty for a method made by hand. No part of the value.
    """

    report = ""

    def single(self) -> Method:
        """This method with one of its independent probes."""
        return replace(self, num_probes=1)  # type: ignore[type-var]


@dataclass(frozen=True)
class Auto(Method):
    """Exact, by the cheapest way that the program of the function allows: the default.

    A closed form without any product, the colours that `color` would find, derivatives by what
    each value sees carried through the network, or products with basis vectors, whichever takes
    the fewest operations; `jacreg.plan` says which and why. Decided while the function is traced,
    under jit too. Never random, so it needs no key.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs**2, jnp.array([[1.0, 2.0, 3.0]]))
        >>> jacreg.divergence(lin, jacreg.Auto())
        Array([12.], dtype=float32)
        >>> jacreg.plan(jacreg.divergence, lin, jacreg.Auto()).num_products
        1
    """


@dataclass(frozen=True)
class Exact(Method):
    """Exact, by products with one basis vector a dimension, in the cheaper direction.

    Costs min(n, M) products for a norm or a dense Jacobian, n for a diagonal, 2 M for a Gram
    matrix, whatever the function; `Auto()` looks for less.

    Attributes:
        chunk_size: tangents evaluated at once, which bounds the memory; with
            several chunks the backward pass recomputes them one by one as well.
            None chooses: all at once while they are small.

    Example:
        >>> import jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs**2, jnp.array([[1.0, 2.0, 3.0]]))
        >>> jacreg.divergence(lin, jacreg.Exact(chunk_size=2))
        Array([12.], dtype=float32)
    """

    chunk_size: int | None = None

    def __post_init__(self) -> None:
        if self.chunk_size is not None:
            check_count("Exact", "chunk_size", self.chunk_size)


@dataclass(frozen=True)
class Projection(Method):
    """Random projections of the Jacobian: unbiased, `num_probes` products.

    Reverse: M ||u^T J||^2 with u uniform on the unit sphere of the output (Hoffman et
    al. 2019, algorithm 1), or ||u^T J||^2 with Gaussian or Rademacher u. Forward: the
    same with J v and the input's dimension n. Where M < n, as in a classifier,
    reverse has less variance a probe.

    Attributes:
        num_probes: independent probes an example.
        distribution: "sphere" (never more variance than "gaussian"), "gaussian",
            "rademacher" (exact for a diagonal J J^T).
        mode: "reverse" (J^T u) or "forward" (J v).

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: 2 * xs, jnp.ones((1, 3)))
        >>> jacreg.frobenius_squared(lin, jacreg.Projection(), key=jax.random.key(0)).round()
        Array([12.], dtype=float32)
    """

    num_probes: int = 1
    distribution: Distribution = "sphere"
    mode: Literal["forward", "reverse"] = "reverse"

    def __post_init__(self) -> None:
        check_count("Projection", "num_probes", self.num_probes)
        _check_choice("Projection", "distribution", self.distribution, DISTRIBUTIONS)
        _check_choice("Projection", "mode", self.mode, ("forward", "reverse"))


@dataclass(frozen=True)
class Hutchinson(Method):
    """Trace and diagonal from v^T J v and v * (J v): unbiased, `num_probes` products.

    The trace estimate has variance 2 (||S||_F^2 - sum_i S_ii^2) with Rademacher
    probes and 2 ||S||_F^2 with Gaussian ones, S the symmetric part of J
    (Hutchinson 1989).

    Attributes:
        num_probes: independent probes an example.
        distribution: "rademacher" (least variance), "gaussian" or "sphere".

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs**2, jnp.array([[1.0, 2.0, 3.0]]))
        >>> jacreg.divergence(lin, jacreg.Hutchinson(), key=jax.random.key(0)).round()
        Array([12.], dtype=float32)
    """

    num_probes: int = 1
    distribution: Distribution = "rademacher"

    def __post_init__(self) -> None:
        check_count("Hutchinson", "num_probes", self.num_probes)
        _check_choice("Hutchinson", "distribution", self.distribution, DISTRIBUTIONS)


@dataclass(frozen=True)
class HutchPlusPlus(Method):
    """Hutch++ (Meyer et al. 2021): a low-rank part exactly, the rest by probes.

    Error O(1 / num_products) where Hutchinson has O(1 / sqrt). Unbiased, and so is its gradient,
    for which the low-rank part's directions are held fixed. For a diagonal, Diag++ (Baston and
    Nakatsukasa 2022), which takes products in both directions.

    Attributes:
        num_products: products with J an example, at least 3; a third each for
            sketch, low-rank part and remainder.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs @ jnp.ones((6, 6)), jnp.ones((1, 6)))
        >>> jacreg.divergence(lin, jacreg.HutchPlusPlus(3), key=jax.random.key(0)).round()
        Array([6.], dtype=float32)
    """

    num_products: int

    def __post_init__(self) -> None:
        check_count("HutchPlusPlus", "num_products", self.num_products, least=3)


@dataclass(frozen=True)
class XTrace(Method):
    """XTrace (Epperly, Tropp, Webber 2024): every product serves twice. Trace and diagonal.

    Errors fall fast where the singular values do. Unbiased, and so is its gradient, for which the
    sketch is held fixed. A diagonal (XDiag) takes products in both directions.

    Attributes:
        num_products: products with J an example, an even number, at least 4.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs @ jnp.ones((6, 6)), jnp.ones((1, 6)))
        >>> jacreg.divergence(lin, jacreg.XTrace(4), key=jax.random.key(0)).round()
        Array([6.], dtype=float32)
    """

    num_products: int

    def __post_init__(self) -> None:
        check_count("XTrace", "num_products", self.num_products, least=4)
        if self.num_products % 2:
            raise ValueError(
                f"XTrace: num_products must be even (half sketch, half test), "
                f"got {self.num_products}; use {self.num_products + 1}."
            )


@dataclass(frozen=True)
class XRowNorm(Method):
    """XRowNorm (Epperly 2025, arXiv:2512.15929) for a squared Frobenius norm.

    Every product serves twice: k vectors give k directions that J stretches most (one step of
    subspace iteration), the norm of J there exactly, and k probes of what is left, each beside
    the directions of the others. Unbiased, and so is its gradient, for which the directions are
    held fixed; its error falls fast where the singular values do. Where they are all alike
    `Projection` is as good, and needs one direction alone.

    Attributes:
        num_products: J v and J^T u an example together, a multiple of 3, at least 6.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: xs @ jnp.ones((8, 8)), jnp.ones((1, 8)))
        >>> jacreg.frobenius_squared(lin, jacreg.XRowNorm(6), key=jax.random.key(0)).round()
        Array([64.], dtype=float32)
    """

    num_products: int

    def __post_init__(self) -> None:
        check_count("XRowNorm", "num_products", self.num_products, least=6)
        if self.num_products % 3:
            raise ValueError(
                "XRowNorm: num_products must be a multiple of 3 (a sketch of J, its directions, "
                f"their images), got {self.num_products}; use "
                f"{self.num_products + 3 - self.num_products % 3}."
            )


@dataclass(frozen=True)
class Probing(Method):
    """Random signs on the classes of a partial colouring: unbiased, exact once these suffice.

    The program is read as by `color`, and positions are put into as many classes as there are
    products, those far apart together (Tang and Saad 2012; with signs as in Hutchinson 1989). What
    two positions of one class see of each other is all that is left of the variance, so that of a
    local network a part of its colours gives nearly what all of them give. For `divergence`,
    `diagonal` and `frobenius_squared`.

    Attributes:
        num_products: products an example, of all probes together; fewer where all colours need
            fewer.
        num_probes: independent draws of signs that share them; with at least two
            `with_standard_error` gives an error. One has the least variance.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> xs = jnp.array([[1.0, 2.0, 3.0, 4.0]])
        >>> lin = jacreg.linearize(lambda xs: xs * jnp.roll(xs, 1, axis=1), xs)
        >>> jacreg.divergence(lin, jacreg.Probing(2), key=jax.random.key(0))
        Array([10.], dtype=float32)
    """

    num_products: int
    num_probes: int = 1

    def __post_init__(self) -> None:
        check_count("Probing", "num_products", self.num_products)
        check_count("Probing", "num_probes", self.num_probes)
        if self.num_products % self.num_probes:
            nearest = self.num_probes * max(1, self.num_products // self.num_probes)
            raise ValueError(
                f"Probing: num_products must be a multiple of num_probes, got {self.num_products} "
                f"and {self.num_probes}; use {nearest}."
            )

    def single(self) -> Probing:
        """One of the probes."""
        return Probing(self.num_products // self.num_probes)


@dataclass(frozen=True)
class Lanczos(Method):
    """Stochastic Lanczos quadrature (Ubaru, Chen, Saad 2017) for a log pseudo-determinant.

    Each probe v gives v^T log(J J^T) v by a Gauss quadrature of `order` nodes, so the mean has
    two errors. The bias is the quadrature's: never negative in exact arithmetic, it falls with
    the order as ((k - 1) / (k + 1))^(2 order) for a condition number k of J, and is zero from
    the number of distinct singular values on. The variance is the probes', 1/2
    (||L||_F^2 - sum_i L_ii^2) / num_probes with Rademacher probes and L = log(J J^T).

    Attributes:
        num_probes: independent probes an example.
        order: steps a probe, of one J v and one J^T u each.
        distribution: "rademacher" (least variance where J J^T is nearly diagonal), "sphere"
            or "gaussian".

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: 2 * xs, jnp.ones((1, 3)))
        >>> method = jacreg.Lanczos(order=1)
        >>> found = jacreg.log_pseudo_determinant(lin, method, key=jax.random.key(0))
        >>> jnp.exp(found).round()
        Array([8.], dtype=float32)
    """

    num_probes: int = 1
    order: int = 16
    distribution: Distribution = "rademacher"

    def __post_init__(self) -> None:
        check_count("Lanczos", "num_probes", self.num_probes)
        check_count("Lanczos", "order", self.order)
        _check_choice("Lanczos", "distribution", self.distribution, DISTRIBUTIONS)


@dataclass(frozen=True)
class NoiseInjection(Method):
    """||f(x + e) - f(x)||^2 / scale^2 with e ~ N(0, scale^2): no derivative at all.

    One extra call of the function a probe, at the batch's own shape. Biased by
    O(scale^2) where the function curves; the limit scale -> 0 is the Gaussian
    forward projection. A sum x + e in the type of x: noise below the rounding of
    x (0.004 of it in bfloat16, 0.0005 in float16) moves nothing and gives 0 or
    noise, so take a scale well above it, or `Projection`, which has no such limit.

    Attributes:
        scale: standard deviation of the noise, in units of the input, positive.
        num_probes: independent noises an example.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: 3 * xs, jnp.ones((1, 10000)))
        >>> found = jacreg.frobenius_squared(lin, jacreg.NoiseInjection(0.1), key=jax.random.key(0))
        >>> (found / 10000).round()
        Array([9.], dtype=float32)
    """

    scale: float
    num_probes: int = 1

    def __post_init__(self) -> None:
        check_positive("NoiseInjection", "scale", self.scale)
        # NumPy's own would choose the type of the noise.
        object.__setattr__(self, "scale", float(self.scale))
        check_count("NoiseInjection", "num_probes", self.num_probes)


@dataclass(frozen=True)
class CoupledBatch(Method):
    """Squared norms of the blocks d y_n / d x_n where examples talk to each other.

    For train-mode BatchNorm: two sign draws s, t in {-1, +1}^N and one probe v an
    example give u_s = s * J(s * v) and u_t = t * J(t * v), whose inner product is
    unbiased for block n. A single estimate may be negative. Two products a probe.

    Attributes:
        num_probes: independent (v, s, t) draws.

    Example:
        >>> import jax, jax.numpy as jnp, jacreg
        >>> lin = jacreg.linearize(lambda xs: 2 * xs, jnp.ones((3, 1)))
        >>> jacreg.frobenius_squared(lin, jacreg.CoupledBatch(), key=jax.random.key(0))
        Array([4., 4., 4.], dtype=float32)
    """

    num_probes: int = 1

    def __post_init__(self) -> None:
        check_count("CoupledBatch", "num_probes", self.num_probes)


def _check_choice(who: str, name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{who}: {name} must be one of {choices}, got {value!r}.")


def select(
    quantity: str, method: Any, table: Mapping[type, Callable[..., Any]]
) -> Callable[..., Any]:
    """Return the implementation for `method`, or say which methods fit the quantity.

    Raises:
        TypeError: `method` is a class, no method, or one that does not fit.
    """
    found = table.get(type(method))
    if found is not None:
        return found
    fitting = ", ".join(cls.__name__ for cls in table)
    if isinstance(method, type) and issubclass(method, Method):
        got = f"the class {method.__name__}; write {method.__name__}(...)"
    elif isinstance(method, Method):
        got = f"{method!r}, which does not estimate it"
    elif isinstance(method, jax.Array):
        got = f"an array of {method.dtype}; if it is the key, pass it by name, key=..."
    else:
        got = f"{method!r}"
    raise TypeError(f"{quantity}: method must be one of {fitting}; got {got}.")


def require_key(quantity: str, method: Any, key: Any) -> Any:
    """Return `key`, or raise because a stochastic method has none, or something else."""
    if key is None:
        raise ValueError(
            f"{quantity}: {type(method).__name__} is stochastic and needs a key; "
            "pass key=jax.random.key(seed), a new one every step."
        )
    check_key(quantity, "key", key)
    return key
