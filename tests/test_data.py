"""Data sets: built-ins, IDX files, folders in the hub's format, and what is wrong with them."""

import gzip
import struct
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from train import data
from train.data import Dataset, Examples, _hub, _idx, stratified_split, subset
from train.errors import ConfigError, DataError
from train.sections import Data

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JACREG_CACHE", str(tmp_path / "cache"))


def images(count, rng=None, shape=(6, 5)):
    rng = rng or np.random.default_rng(0)
    return rng.integers(0, 256, (count, *shape), np.uint8)


def error(**options) -> str:
    with pytest.raises(DataError) as caught:
        data.load(Data(**options))
    text = str(caught.value)
    assert len(text) < 1500
    return text


class TestBuiltins:
    def test_mnist_5k(self):
        first = data.load(Data(name="mnist-5k"))
        assert (len(first.train), len(first.test)) == (4000, 1000)
        assert first.input_shape == (28, 28, 1)
        assert first.train.inputs.dtype == np.uint8
        assert first.train.inputs.max() == 255
        np.testing.assert_array_equal(np.bincount(first.train.targets), 400)
        np.testing.assert_array_equal(np.bincount(first.test.targets), 100)
        # Sorted by label in the package: the split must have shuffled.
        assert len(np.unique(first.train.targets[:200])) == 10
        again = data.load(Data(name="mnist-5k"))
        assert again.fingerprint() == first.fingerprint()
        rows = {row.tobytes() for row in first.train.inputs}
        assert not any(row.tobytes() in rows for row in first.test.inputs)

    def test_a_cache_that_is_torn_is_made_again(self, tmp_path):
        whole = data.load(Data(name="digits")).fingerprint()
        (stored,) = (tmp_path / "cache").glob("*.npz")
        content = stored.read_bytes()
        for torn in (b"", content[: len(content) // 2], b"x" * 100):
            stored.write_bytes(torn)
            assert data.load(Data(name="digits")).fingerprint() == whole

    def test_a_cache_folder_that_cannot_be_written_is_no_error(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("JACREG_CACHE", str(tmp_path / "file" / "below"))
        assert data.load(Data(name="digits")).input_shape == (8, 8, 1)

    def test_an_unknown_name_is_answered_without_the_network(self):
        assert '"mnist-5k"' in error(name="mnist-5kk")


class TestSplitting:
    def test_samples_per_class(self):
        small = data.load(Data(name="digits", samples_per_class=3))
        np.testing.assert_array_equal(np.bincount(small.train.targets), 3)
        again = data.load(Data(name="digits", samples_per_class=3))
        assert again.fingerprint() == small.fingerprint()
        assert "smallest class" in error(name="digits", samples_per_class=500)

    def test_split_keeps_every_example_once(self):
        examples = Examples(np.arange(40.0, dtype=np.float32)[:, None], np.repeat([0, 1], 20))
        train, test = stratified_split(examples, 0.25)
        assert (len(train), len(test)) == (30, 10)
        np.testing.assert_array_equal(np.bincount(test.targets), 5)
        both = np.concatenate([train.inputs, test.inputs])
        np.testing.assert_array_equal(np.sort(both, axis=0), examples.inputs)

    def test_a_density_has_no_classes(self):
        points = Examples(np.zeros((4, 2), np.float32), None)
        with pytest.raises(DataError, match="no class labels"):
            subset(Dataset("points", points, points), 1)

    def test_scaling_must_fit_the_channels(self):
        assert "1 channels" in error(name="digits", mean=(0.1, 0.2, 0.3))


def write_idx(path, array, *, compress=False, magic=None, sizes=None):
    sizes = array.shape if sizes is None else sizes
    head = struct.pack(">HBB", 0, 8, array.ndim) if magic is None else magic
    content = head + struct.pack(f">{len(sizes)}I", *sizes) + array.tobytes()
    if compress:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
    else:
        path.write_bytes(content)


def write_folder(folder, *, compress=False):
    folder.mkdir()
    for split, count in (("train", 20), ("test", 10)):
        image_name, label_name = _idx.FILES[split]
        write_idx(folder / image_name, images(count), compress=compress)
        labels = np.arange(count, dtype=np.uint8) % 3
        write_idx(folder / label_name, labels, compress=compress)
    return folder


class TestIdx:
    @pytest.mark.parametrize("compress", [False, True])
    def test_raw_and_gzipped(self, tmp_path, compress):
        folder = write_folder(tmp_path / "idx", compress=compress)
        loaded = data.load(Data(name="mnist-5k", path=str(folder)))
        assert loaded.input_shape == (6, 5, 1)
        np.testing.assert_array_equal(loaded.train.inputs[..., 0], images(20))
        np.testing.assert_array_equal(loaded.test.targets, np.arange(10) % 3)
        assert loaded.classes == ("0", "1", "2")

    @pytest.mark.parametrize("compress", [False, True])
    @pytest.mark.parametrize("keep", [0, 3, 10, 100, -1])
    def test_torn(self, tmp_path, compress, keep):
        folder = write_folder(tmp_path / "idx", compress=compress)
        name = "train-images-idx3-ubyte" + (".gz" if compress else "")
        (folder / name).write_bytes((folder / name).read_bytes()[:keep])
        text = error(path=str(folder))
        assert name in text
        assert "torn" in text

    def test_what_else_can_be_wrong(self, tmp_path):
        folder = write_folder(tmp_path / "idx")
        image_file, label_file = folder / _idx.FILES["train"][0], folder / _idx.FILES["train"][1]
        good = image_file.read_bytes()
        write_idx(image_file, images(20), magic=b"\x89PNG")
        assert "magic number 0x89504e47, expected 0x00000803" in error(path=str(folder))
        write_idx(image_file, images(20), magic=b"\0\0\x0d\x03")
        assert "magic" in error(path=str(folder))
        # A header that lies about its size must not ask for the memory.
        write_idx(image_file, images(20), sizes=(2**31, 2**10, 2**10))
        assert "torn" in error(path=str(folder))
        image_file.write_bytes(good + b"x")
        assert "more" in error(path=str(folder))
        write_idx(image_file, images(19))
        assert "19 images" in error(path=str(folder))
        image_file.write_bytes(good)
        label_file.unlink()
        assert "train-labels-idx1-ubyte" in error(path=str(folder))


def table(count, *, column="image", labels=None, mode="L", size=(5, 6)):
    pictures = [
        Image.fromarray(array).resize(size).convert(mode) for array in images(count, shape=(6, 5))
    ]
    names = ["cat", "dog", "owl"]
    labels = np.arange(count) % 3 if labels is None else labels
    features = datasets.Features(
        {column: datasets.Image(), "label": datasets.ClassLabel(names=names)}
    )
    return datasets.Dataset.from_dict({column: pictures, "label": labels}, features=features)


def write_parquet(folder, **options):
    folder.mkdir(exist_ok=True)
    table(9, **options).to_parquet(folder / "train-00000-of-00001.parquet")
    table(6, **options).to_parquet(folder / "test-00000-of-00001.parquet")
    return folder


class TestFolders:
    def test_parquet(self, tmp_path):
        folder = write_parquet(tmp_path / "set")
        loaded = data.load(Data(path=str(folder)))
        np.testing.assert_array_equal(loaded.train.inputs[..., 0], images(9))
        np.testing.assert_array_equal(loaded.test.targets, np.arange(6) % 3)
        assert loaded.classes == ("cat", "dog", "owl")
        assert data.load(Data(path=str(folder))).fingerprint() == loaded.fingerprint()

    def test_a_changed_folder_is_read_again(self, tmp_path):
        folder = write_parquet(tmp_path / "set")
        before = data.load(Data(path=str(folder)))
        table(12).to_parquet(folder / "train-00000-of-00001.parquet")
        assert len(before.train) == 9
        assert len(data.load(Data(path=str(folder))).train) == 12

    def test_image_folder_in_color(self, tmp_path):
        for split in ("train", "test"):
            for label in ("cat", "dog"):
                place = tmp_path / "set" / split / label
                place.mkdir(parents=True)
                for number in range(3):
                    pixels = np.random.default_rng(number).integers(0, 256, (6, 5, 3), np.uint8)
                    Image.fromarray(pixels).save(place / f"{number}.png")
        loaded = data.load(Data(path=str(tmp_path / "set")))
        assert loaded.input_shape == (6, 5, 3)
        assert sorted(loaded.train.targets) == [0, 0, 0, 1, 1, 1]
        assert loaded.classes == ("cat", "dog")

    def test_a_set_without_test_split_is_split(self, tmp_path):
        folder = tmp_path / "set"
        folder.mkdir()
        table(30).to_parquet(folder / "train.parquet")
        loaded = data.load(Data(path=str(folder), test_fraction=0.2))
        assert (len(loaded.train), len(loaded.test)) == (24, 6)

    def test_columns_by_name(self, tmp_path):
        folder = tmp_path / "set"
        folder.mkdir()
        fine = table(9).add_column("coarse", [0, 1, 0] * 3)
        fine.to_parquet(folder / "train.parquet")
        fine.to_parquet(folder / "test.parquet")
        loaded = data.load(Data(path=str(folder), label_column="coarse"))
        np.testing.assert_array_equal(loaded.train.targets, [0, 1, 0] * 3)
        assert "data.label_column" in error(path=str(folder), label_column="colour")
        assert "data.image_column" in error(path=str(folder), image_column="img")

    def test_an_image_column_of_any_name(self, tmp_path):
        found = data.load(Data(path=str(write_parquet(tmp_path / "set", column="img"))))
        np.testing.assert_array_equal(found.train.inputs[..., 0], images(9))
        folder = tmp_path / "two"
        folder.mkdir()
        for split in ("train", "test"):
            masks = table(9, column="mask").remove_columns("label").select(range(3, 9))
            both = datasets.concatenate_datasets([table(6), masks], axis=1)
            both.to_parquet(folder / f"{split}.parquet")
        assert "name it: data.image_column" in error(path=str(folder))
        found = data.load(Data(path=str(folder), image_column="mask"))
        np.testing.assert_array_equal(found.train.inputs[..., 0], images(9)[3:])

    @pytest.mark.parametrize("keep", [0, 3, 200, -9])
    def test_torn_parquet(self, tmp_path, keep, capfd):
        folder = write_parquet(tmp_path / "set")
        path = folder / "train-00000-of-00001.parquet"
        path.write_bytes(path.read_bytes()[:keep])
        capfd.readouterr()  # the progress bars of writing
        assert str(folder) in error(path=str(folder))
        assert capfd.readouterr().err == ""

    def test_what_else_can_be_wrong(self, tmp_path):
        assert "does not exist" in error(path=str(tmp_path / "absent"))
        empty = tmp_path / "empty"
        empty.mkdir()
        assert "holds nothing" in error(path=str(empty))
        (empty / "model.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        assert "holds model.pkl" in error(path=str(empty))
        assert "is a file" in error(path=str(empty / "model.pkl"))
        assert "missing labels" in error(path=str(write_hidden(tmp_path / "hidden")))

    def test_images_of_several_sizes(self, tmp_path):
        for number in range(4):
            place = tmp_path / "set" / "train" / ("cat", "dog")[number // 2]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images(1, shape=(6, 5 + number % 2))[0]).save(place / f"{number}.png")
        assert "2 sizes" in error(path=str(tmp_path / "set"))


def write_hidden(folder):
    folder.mkdir()
    hidden = table(6).remove_columns("label").add_column("label", [0, 1, -1, 0, 1, 0])
    hidden.to_parquet(folder / "train.parquet")
    hidden.to_parquet(folder / "test.parquet")
    return folder


class TestHub:
    def test_out_of_reach(self, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setattr(_hub, "_reachable", lambda endpoint: False)
        text = error(name="nobody/nothing")
        assert "nobody/nothing" in text
        assert "data.path" in text

    def test_the_probe_is_short(self):
        # Nothing listens on port 9 of this machine, and the name does not resolve.
        assert not _hub._reachable("http://127.0.0.1:9")
        assert not _hub._reachable("http://nowhere.invalid")


@pytest.mark.skipif(not (SHARED / "mnist").is_dir(), reason="no local copy of MNIST")
def test_mnist_in_the_format_of_the_hub():
    loaded = data.load(Data(path=str(SHARED / "mnist")))
    assert (len(loaded.train), len(loaded.test)) == (60000, 10000)
    assert loaded.input_shape == (28, 28, 1)
    np.testing.assert_array_equal(np.bincount(loaded.test.targets)[:3], [980, 1135, 1032])


def test_every_builtin_is_listed_with_its_options():
    from train.listing import listing

    lines = listing().splitlines()
    for name, row in data.BUILTINS.items():
        (at,) = [number for number, line in enumerate(lines) if line.startswith(f"  {name} ")]
        assert lines[at].endswith((row.__doc__ or "").splitlines()[0])
        keys = data.builtin_keys(name)
        listed = [line.split(":")[0].strip() for line in lines[at + 1 : at + 1 + len(keys)]]
        assert listed == list(keys)


def test_a_builtin_takes_its_own_options(monkeypatch):
    def points(*, spread: float = 1.0) -> Dataset:
        """Return two points."""
        both = Examples(np.asarray([[-spread], [spread]], np.float32), None)
        return Dataset("points", both, both)

    monkeypatch.setattr("train.data._load.BUILTINS", {"points": points})
    from train_setup import BASE

    from train.config import parse

    config = parse({**BASE, "data": {"name": "points", "spread": 3}}, "x")
    loaded = data.load(config.data)
    assert loaded.train.inputs.max() == 3
    assert not loaded.is_image
    with pytest.raises(ConfigError, match=r"data\.spred"):
        parse({**BASE, "data": {"name": "points", "spred": 3}}, "x")
