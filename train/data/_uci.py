"""The UCI tables on which DKEF and sliced score matching are compared, preprocessed as there.

What the papers say: eleven features of each wine, dequantised; Parkinsons without columns
that correlate above 0.98; PCA whitening. From DKEF's official code: the wines' quality and
the first three columns of Parkinsons (subject, age, sex) are left out; noise is uniform
between plus and minus the median gap of a column's distinct values; of a correlated pair the
earlier column goes. Our choices: whitening is fitted on the training rows alone, so
that nothing is learnt from the test rows; `data.test_fraction` is held out at random, and
nothing is set aside for validation.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np

from train.data._csv import Table, read_csv
from train.data._dataset import Dataset, Examples, random_split
from train.data._points import Seed
from train.errors import DataError
from train.expect import number

if TYPE_CHECKING:
    from jaxtyping import Float

    from train.sections import Data

_HIGHEST_CORRELATION = 0.98
_LEAST_SPREAD = 1e-6  # of the smallest principal component, relative to the largest

# In gaps between a column's distinct values.
Dequantisation = Annotated[float, number(least=0, most=100)]


class _Source(NamedTuple):
    """A published file: its name, where it is, its columns and which of them are features."""

    name: str
    file: str
    published_in: str
    columns: int
    features: slice


_RED = _Source("red-wine", "winequality-red.csv", "Wine Quality", 12, slice(0, 11))
_WHITE = _Source("white-wine", "winequality-white.csv", "Wine Quality", 12, slice(0, 11))
_PARKINSONS = _Source(
    "parkinsons", "parkinsons_updrs.data", "Parkinsons Telemonitoring", 22, slice(3, 22)
)


def red_wine(options: Data, *, noise: Dequantisation = 1.0, seed: Seed = 0) -> Dataset:
    """UCI's 1599 red wines, 11 whitened features; data.path holds winequality-red.csv."""
    return _load(options, _RED, noise, seed)


def white_wine(options: Data, *, noise: Dequantisation = 1.0, seed: Seed = 0) -> Dataset:
    """UCI's 4898 white wines, 11 whitened features; data.path holds winequality-white.csv."""
    return _load(options, _WHITE, noise, seed)


def parkinsons(options: Data, *, noise: Dequantisation = 1.0, seed: Seed = 0) -> Dataset:
    """UCI's 5875 Parkinsons recordings, whitened; data.path holds parkinsons_updrs.data."""
    return _load(options, _PARKINSONS, noise, seed, drop_correlated=True)


def _load(
    options: Data, source: _Source, noise: float, seed: int, drop_correlated: bool = False
) -> Dataset:
    table = read_csv(_path(options, source))
    if len(table.names) != source.columns:
        raise DataError(
            f"{table.path}: has {len(table.names)} columns, expected the {source.columns} of "
            f"{source.file}; for another table give data.name=csv."
        )
    names = table.names[source.features]
    features = table.values[:, source.features]
    _check_spread(table, names, features)
    if drop_correlated:
        features = features[:, uncorrelated(features)]
    features = dequantised(features, noise, seed)
    train, test = random_split(Examples(features, None), options.test_fraction, seed)
    mean, whitening = pca_whitening(train.inputs, str(table.path))

    def whitened(rows: np.ndarray) -> Examples:
        return Examples(((rows - mean) @ whitening).astype(np.float32), None)

    return Dataset(source.name, whitened(train.inputs), whitened(test.inputs))


def _path(options: Data, source: _Source) -> Path:
    get = (
        f"it is the UCI Machine Learning Repository's file {source.file}, of the data set "
        f'"{source.published_in}"; fetch it and give data.path=FOLDER or the file\'s own path.'
    )
    if options.path is None:
        raise DataError(f'data.path is missing: data.name="{source.name}" reads a file; {get}')
    path = Path(options.path)
    if path.is_dir():
        path = path / source.file
    if not path.is_file():
        raise DataError(f"data.path: {path} does not exist; {get}")
    return path


def _check_spread(table: Table, names: tuple[str, ...], features: np.ndarray) -> None:
    least = features.shape[1] + 2
    if len(features) < least:
        raise DataError(f"{table.path}: has {len(features)} rows, expected at least {least}.")
    spread = np.ptp(features, axis=0)
    if np.any(spread == 0):
        raise DataError(
            f"{table.path}: column {names[int(np.argmin(spread))]} is constant; expected features "
            "that vary."
        )


def uncorrelated(features: Float[np.ndarray, "N D"]) -> list[int]:
    """Return the columns left when no two correlate above 0.98 in modulus.

    Again and again the first column that correlates with another is left out.
    """
    modulus = np.abs(np.corrcoef(features.T))
    kept = list(range(features.shape[1]))
    while True:
        close = np.sum(modulus[np.ix_(kept, kept)] > _HIGHEST_CORRELATION, axis=1) > 1
        if not close.any():
            return kept
        del kept[int(np.argmax(close))]


def dequantised(
    features: Float[np.ndarray, "N D"], noise: float, seed: int
) -> Float[np.ndarray, "N D"]:
    """Add uniform noise of `noise` times the median gap between a column's distinct values."""
    rng = np.random.default_rng([seed, 2])
    gaps = [np.quantile(np.ediff1d(np.unique(column)), 0.5) for column in features.T]
    return features + noise * np.asarray(gaps) * rng.uniform(-1, 1, features.shape)


def pca_whitening(
    features: Float[np.ndarray, "N D"], name: str
) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, "D D"]]:
    """Return mean and matrix W so that (x - mean) W has mean 0 and covariance I.

    Raises:
        DataError: the columns are linearly dependent.
    """
    mean, scale = features.mean(0), features.std(0)
    # Columns brought to one scale first: only then is a small singular value a dependence.
    scale[scale == 0] = 1
    spreads = np.linalg.svd((features - mean) / scale, compute_uv=False)
    if spreads[-1] < _LEAST_SPREAD * spreads[0]:
        raise DataError(
            f"{name}: its columns are linearly dependent (smallest singular value "
            f"{spreads[-1] / spreads[0]:.1e} of the largest), so they cannot be whitened."
        )
    _, spreads, directions = np.linalg.svd(features - mean, full_matrices=False)
    return mean, directions.T / spreads * np.sqrt(len(features))
