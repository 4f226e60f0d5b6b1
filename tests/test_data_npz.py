"""An npz file as a data set: the arrays as they were, and what is refused."""

import numpy as np
import pytest

from train import data
from train.errors import DataError
from train.sections import Data

RNG = np.random.default_rng(0)
KERAS = ("x_train", "y_train", "x_test", "y_test")
MEDMNIST = ("train_images", "train_labels", "test_images", "test_labels")
PICTURES = RNG.integers(0, 256, (6, 4, 5)).astype(np.uint8)
LABELS = np.array([0, 2, 1, 1, 0, 2])


def saved(tmp_path, inputs, targets, names=KERAS, **more):
    """The path of a file whose last two rows are for test."""
    arrays = (inputs[:4], targets[:4], inputs[4:], targets[4:])
    np.savez(tmp_path / "mine.npz", **dict(zip(names, arrays, strict=True)), **more)
    return Data(path=str(tmp_path / "mine.npz"))


@pytest.mark.parametrize("names", [KERAS, MEDMNIST])
@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None].astype(np.uint8)])
def test_grey_pictures_of_three_classes(tmp_path, names, labels):
    found = data.load(saved(tmp_path, PICTURES, labels, names, note=np.zeros(2)))
    assert found.classes == ("0", "1", "2")
    assert found.is_image
    np.testing.assert_array_equal(found.train.inputs, PICTURES[:4, ..., None])
    np.testing.assert_array_equal(found.test.targets, LABELS[4:])
    assert found.test.targets.dtype == np.int32


def test_floats_reach_the_model_as_they_are(tmp_path):
    inputs, targets = RNG.normal(size=(6, 3)), RNG.normal(size=6)
    found = data.load(saved(tmp_path, inputs, targets))
    np.testing.assert_array_equal(found.train.inputs, inputs[:4].astype(np.float32))
    np.testing.assert_array_equal(found.test.targets, targets[4:, None].astype(np.float32))
    assert found.classes == ()


@pytest.mark.parametrize(
    ("inputs", "targets", "says"),
    [
        (PICTURES[:, 0], LABELS, "x_train: got uint8 of shape"),
        (PICTURES.astype(int), LABELS, "x_train: got int64, expected uint8"),
        (PICTURES, LABELS - 1, "y_train: labels run from -1 to 1"),
        (PICTURES, np.eye(3, dtype=int)[LABELS], "One-hot rows are labels by np.argmax"),
        (np.full((6, 3), np.inf), LABELS, "12 of 12 values are not finite in float32"),
        (PICTURES, LABELS.astype(str), "y_train: got <U"),
        (PICTURES, np.array([{}] * 6), "cannot be read as npz"),
    ],
)
def test_what_is_refused(tmp_path, inputs, targets, says):
    with pytest.raises(DataError, match=says):
        data.load(saved(tmp_path, inputs, targets))


def test_splits_of_two_kinds_are_told(tmp_path):
    arrays = dict(zip(KERAS, (PICTURES, LABELS, PICTURES[:, :3], LABELS), strict=True))
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(DataError, match=r"\(\(4, 5, 1\), 'uint8'\).* those for test"):
        data.load(Data(path=str(tmp_path / "mine.npz")))


def test_other_names_and_torn_files_are_told(tmp_path):
    with pytest.raises(DataError, match=r"holds \['a', 'b', 'c', 'd'\]; expected the arrays x_tr"):
        data.load(saved(tmp_path, PICTURES, LABELS, "abcd"))
    saved(tmp_path, PICTURES, LABELS)
    torn = tmp_path / "torn.npz"
    torn.write_bytes((tmp_path / "mine.npz").read_bytes()[:200])
    spoilt = bytearray((tmp_path / "mine.npz").read_bytes())
    spoilt[150] ^= 255
    np.save(tmp_path / "one.npy", PICTURES)
    one = (tmp_path / "one.npy").read_bytes()
    for content in (torn.read_bytes(), bytes(spoilt), b"", b"text", one):
        torn.write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as npz"):
            data.load(Data(path=str(torn)))


def test_a_path_in_the_place_of_a_name_is_told(tmp_path, monkeypatch):
    saved(tmp_path, PICTURES, LABELS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"For the file give data.path=mine.npz"):
        data.load(Data(name="mine.npz"))
