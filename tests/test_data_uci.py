"""Wine and Parkinsons: the preprocessing step by step, on made-up files and on the real ones."""

from pathlib import Path

import numpy as np
import pytest
from train_setup import tiny

from train import data
from train.data import _uci
from train.data._csv import read_csv
from train.errors import ConfigError, DataError

UCI = Path(__file__).resolve().parents[2] / "shared" / "data" / "uci"
FILES = {
    "red-wine": "winequality-red.csv",
    "white-wine": "winequality-white.csv",
    "parkinsons": "parkinsons_updrs.data",
}


def loaded(name, path=None, **options):
    place = {} if path is None else {"path": str(path)}
    return data.load(tiny(data={"name": name, **place, **options}).data)


def covariance_error(points):
    points = np.asarray(points, np.float64)
    covariance = points.T @ points / len(points)
    return max(np.abs(points.mean(0)).max(), np.abs(covariance - np.eye(points.shape[1])).max())


def write(folder, name, rows=200, change=None):
    """Write a file of the published shape, rounded to two digits; column 5 is twice column 4."""
    rng = np.random.default_rng(0)
    columns = 22 if name == "parkinsons" else 12
    values = np.round(rng.standard_normal((rows, columns)) * np.arange(1, columns + 1), 2)
    if name == "parkinsons":
        values[:, 0] = np.arange(rows)
        values[:, 5] = 2 * values[:, 4]
    if change is not None:
        change(values)
    header = ";".join(f"c{column}" for column in range(columns))
    path = folder / FILES[name]
    np.savetxt(path, values, delimiter=";", header=header, comments="", fmt="%.17g")
    return values


@pytest.mark.parametrize("name", FILES)
class TestMadeUp:
    def test_shape_and_whitening(self, name, tmp_path):
        write(tmp_path, name)
        found = loaded(name, tmp_path)
        assert found.name == name
        assert found.input_shape == (18 if name == "parkinsons" else 11,)
        assert (len(found.train), len(found.test)) == (160, 40)
        assert found.train.inputs.dtype == np.float32
        assert found.train.targets is None
        # Whitened by the training rows alone.
        assert covariance_error(found.train.inputs) < 1e-5
        assert covariance_error(found.test.inputs) > 0.05
        by_file = loaded(name, tmp_path / FILES[name])
        assert by_file.fingerprint() == found.fingerprint()
        assert loaded(name, tmp_path, seed=1).fingerprint() != found.fingerprint()
        assert len(loaded(name, tmp_path, test_fraction=0.5).test) == 100

    def test_a_missing_file_is_told_where_it_is(self, name, tmp_path):
        for path in (None, tmp_path, tmp_path / "absent.csv"):
            with pytest.raises(DataError) as caught:
                loaded(name, path)
            text = str(caught.value)
            assert FILES[name] in text
            assert "UCI Machine Learning Repository" in text
            assert "data.path" in text

    def test_another_table_is_refused(self, name, tmp_path):
        (tmp_path / FILES[name]).write_text("a,b\n1,2\n3,4\n")
        with pytest.raises(DataError, match="has 2 columns, expected the"):
            loaded(name, tmp_path)
        write(tmp_path, name, rows=5)
        with pytest.raises(DataError, match="has 5 rows"):
            loaded(name, tmp_path)
        write(tmp_path, name, change=lambda values: values[:, 7].fill(3))
        with pytest.raises(DataError, match="column c7 is constant"):
            loaded(name, tmp_path)

    def test_dependent_columns_cannot_be_whitened(self, name, tmp_path):
        def change(values):
            values[:, 10] = values[:, 8] + values[:, 9]

        write(tmp_path, name, change=change)
        with pytest.raises(DataError, match="linearly dependent"):
            loaded(name, tmp_path, noise=0)
        # Dequantisation takes the exact dependence away.
        assert covariance_error(loaded(name, tmp_path).train.inputs) < 1e-3

    def test_bad_options(self, name):
        with pytest.raises(ConfigError, match=r"data\.noise"):
            tiny(data={"name": name, "noise": -1})


def test_whitening_keeps_what_the_file_says(tmp_path):
    """Without noise the whitened points are an affine image of the features."""
    values = write(tmp_path, "red-wine")
    found = loaded("red-wine", tmp_path, noise=0)
    whitened = np.concatenate([found.train.inputs, found.test.inputs])
    order = np.random.default_rng(0).permutation(len(values))
    features = np.concatenate([values[order[40:], :11], values[order[:40], :11]])
    affine = np.column_stack([features, np.ones(len(features))])
    solution, *_ = np.linalg.lstsq(affine, whitened, rcond=None)
    np.testing.assert_allclose(affine @ solution, whitened, atol=1e-5)


def test_dequantisation_is_uniform_within_a_median_gap():
    features = np.column_stack([np.repeat([0.0, 0.1, 0.2, 5.0], 2500), np.arange(10_000) % 7])
    added = _uci.dequantised(features, 1.0, seed=0) - features
    for column, gap in ((0, 0.1), (1, 1.0)):
        assert np.abs(added[:, column]).max() <= gap
        # A uniform distribution on [-1, 1] has variance 1/3; its square a deviation of 0.298.
        error = 0.298 / np.sqrt(10_000)
        assert 5 * error < 0.05 / 3
        assert abs(np.mean((added[:, column] / gap) ** 2) - 1 / 3) < 5 * error
    np.testing.assert_allclose(_uci.dequantised(features, 0.5, seed=0) - features, added / 2)
    np.testing.assert_array_equal(_uci.dequantised(features, 0.0, seed=0), features)


def test_of_correlated_columns_the_earlier_goes():
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((3, 1000))
    near = 0.97 * a + np.sqrt(1 - 0.97**2) * b  # correlates 0.97: stays
    assert _uci.uncorrelated(np.column_stack([a, b, -3 * a, c])) == [1, 2, 3]
    assert _uci.uncorrelated(np.column_stack([a, b, c])) == [0, 1, 2]
    assert _uci.uncorrelated(np.column_stack([a, a + 1, 2 * a, b])) == [2, 3]
    assert _uci.uncorrelated(np.column_stack([a, near])) == [0, 1]


@pytest.mark.skipif(not UCI.is_dir(), reason="no local copy of the UCI files")
@pytest.mark.parametrize(
    ("name", "rows", "dimensions"),
    [("red-wine", 1599, 11), ("white-wine", 4898, 11), ("parkinsons", 5875, 15)],
)
def test_the_real_files(name, rows, dimensions):
    found = loaded(name, UCI)
    assert found.input_shape == (dimensions,)
    assert len(found.train) + len(found.test) == rows
    assert len(found.test) == round(0.2 * rows)
    assert covariance_error(found.train.inputs) < 1e-4
    # Heavy tails, but nothing that a wrong separator or a lost header would leave.
    assert np.abs(found.test.inputs).max() < 60
    features = read_csv(UCI / FILES[name])
    assert features.names[0] == ("subject#" if name == "parkinsons" else "fixed acidity")
    assert len(features.values) == rows


@pytest.mark.skipif(not UCI.is_dir(), reason="no local copy of the UCI files")
def test_the_wines_as_a_regression_and_as_classes():
    path = UCI / FILES["red-wine"]
    quality = loaded("csv", path, target_columns="quality", standardize=True)
    assert quality.input_shape == (11,)
    assert quality.train.targets.shape == (1279, 1)
    assert set(np.unique(quality.train.targets)) <= set(range(3, 9))
    graded = loaded("csv", path, label_column="quality")
    assert graded.classes == ("3", "4", "5", "6", "7", "8")
    with pytest.raises(DataError, match="3 tables"):
        loaded("csv", UCI)
