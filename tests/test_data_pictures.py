"""Pictures are read in their own range and axis order, or refused with the key to write."""

import io
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from train import data
from train.errors import ConfigError, DataError
from train.sections import Data

datasets.disable_progress_bars()
RAMP = np.arange(64).reshape(8, 8)
RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, 6 * 3 * 64, np.uint8)
COLOR = RNG.integers(0, 256, (8, 8, 3), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JACREG_CACHE", str(tmp_path / "cache"))


def picture_folder(folder: Path, pictures, end="png") -> str:
    """Write each picture once into the two classes of the two splits."""
    for split in ("train", "test"):
        for label in ("a", "b"):
            place = folder / split / label
            place.mkdir(parents=True)
            for number, picture in enumerate(pictures):
                picture.save(place / f"{number}.{end}")
    return str(folder)


def parquet_folder(folder: Path, images, feature=None) -> str:
    """Write arrays as a column of the hub, or as they come where no feature is given."""
    folder.mkdir()
    labels = np.arange(len(images)) % 2
    for split in ("train", "test"):
        path = folder / f"{split}.parquet"
        if feature is None:
            pq.write_table(pa.table({"image": list(images), "label": labels}), path)
            continue
        features = datasets.Features(
            {"image": feature, "label": datasets.ClassLabel(num_classes=2)}
        )
        table = datasets.Dataset.from_dict({"image": list(images), "label": labels}, features)
        table.to_parquet(str(path))
    return str(folder)


def error(**options) -> str:
    with pytest.raises(DataError) as caught:
        data.load(Data(**options))
    text = str(caught.value)
    assert len(text) < 1500
    return text


def shares(loaded):
    return np.asarray(loaded.pixels.shares(loaded.train.inputs))


DEEP = [
    ("byte png", (RAMP * 4).astype(np.uint8), "png", 255),
    ("16-bit png", (RAMP * 1024).astype(np.uint16), "png", 65535),
    ("16-bit tiff", (RAMP * 1024).astype(np.uint16), "tiff", 65535),
    ("big-endian 16-bit tiff", (RAMP * 1024).astype(">u2"), "tiff", 65535),
    ("32-bit tiff", (RAMP * 1024).astype(np.int32), "tiff", 65535),
    ("float tiff to 1", (RAMP / 63).astype(np.float32), "tiff", 1),
    ("float tiff to 255", (RAMP * 4 + 0.5).astype(np.float32), "tiff", 255),
]


@pytest.mark.parametrize(("name", "array", "end", "white"), DEEP, ids=[row[0] for row in DEEP])
def test_files_of_any_depth_keep_every_level(tmp_path, name, array, end, white):
    loaded = data.load(
        Data(path=picture_folder(tmp_path / "set", [Image.fromarray(array)] * 2, end))
    )
    assert loaded.input_shape == (8, 8, 1)
    np.testing.assert_allclose(shares(loaded)[0, :, :, 0], array / white, atol=1e-6)
    assert len(np.unique(loaded.train.inputs)) == 64
    assert loaded.describe()["pixels"]["range"] == [0, white]
    # From the cache too.
    again = data.load(Data(path=str(tmp_path / "set")))
    assert again.pixels == loaded.pixels
    assert again.fingerprint() == loaded.fingerprint()


ARRAYS = [
    ("float32 to 1", "Array2D", RNG.random((6, 8, 8)).astype(np.float32), 1, "HW"),
    ("float64 to 1", "Array2D", RNG.random((6, 8, 8)), 1, "HW"),
    ("float32 to 255", "Array2D", 255 * RNG.random((6, 8, 8)).astype(np.float32), 255, "HW"),
    ("uint16", "Array2D", RNG.integers(0, 65536, (6, 8, 8)).astype(np.uint16), 65535, "HW"),
    ("int64 bytes", "Array2D", RNG.integers(0, 256, (6, 8, 8)), 255, "HW"),
    ("int32 to 65535", "Array2D", RNG.integers(0, 65536, (6, 8, 8)).astype(np.int32), 65535, "HW"),
    ("booleans", "Array2D", RNG.random((6, 8, 8)) > 0.5, 1, "HW"),
    ("bytes, channels first", "Array3D", BYTES.reshape(6, 3, 8, 8), 255, "CHW"),
    ("floats, channels first", "Array3D", RNG.random((6, 3, 8, 8)).astype(np.float32), 1, "CHW"),
    ("one channel first", "Array3D", RNG.random((6, 1, 8, 8)).astype(np.float32), 1, "CHW"),
    ("channels last", "Array3D", BYTES.reshape(6, 8, 8, 3), 255, "HWC"),
    ("small, channels last", "Array3D", RNG.random((6, 4, 4, 1)).astype(np.float32), 1, "HWC"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind", "images", "white", "axes"), ARRAYS, ids=[row[0] for row in ARRAYS]
)
def test_arrays_in_their_own_range_and_axes(tmp_path, name, kind, images, white, axes):
    feature = getattr(datasets, kind)(images.shape[1:], str(images.dtype))
    loaded = data.load(Data(path=parquet_folder(tmp_path / "set", images, feature)))
    expected = {
        "HW": lambda: images[..., None],
        "CHW": lambda: np.moveaxis(images, 1, -1),
        "HWC": lambda: images,
    }[axes]()
    assert loaded.train.inputs.shape == expected.shape
    np.testing.assert_allclose(shares(loaded), expected / white, atol=1e-6)
    told = loaded.describe()["pixels"]
    assert (told["range"], told["axes"]) == ([0, white], axes)
    assert told["stored"] == str(images.dtype)


REFUSED = [
    ("12 bits in 32", RNG.integers(0, 4096, (6, 8, 8)).astype(np.int32), "[0, 4095]"),
    ("bytes in 16 bits", RNG.integers(0, 256, (6, 8, 8)).astype(np.uint16), "[0, 255]"),
    ("17 levels", RNG.integers(0, 17, (6, 8, 8)), "[0, 255]"),
    ("zeros and ones", RNG.integers(0, 2, (6, 8, 8)).astype(np.uint8), "[0, 1]"),
    ("about zero", RNG.uniform(-1, 1, (6, 8, 8)), "[-1, 1]"),
    ("standardised", RNG.normal(size=(6, 8, 8)) * 3, "[-255, 255]"),
]


@pytest.mark.parametrize(("name", "images", "advice"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_range_that_cannot_be_told_is_asked_for(tmp_path, name, images, advice):
    feature = datasets.Array2D((8, 8), str(images.dtype))
    folder = parquet_folder(tmp_path / "set", images, feature)
    text = error(path=folder)
    assert f"data.pixel_range={advice}" in text
    assert f"{images.max():g}" in text
    low, high = (float(end) for end in advice.strip("[]").split(","))
    loaded = data.load(Data(path=folder, pixel_range=(low, high)))
    np.testing.assert_allclose(shares(loaded)[..., 0], (images - low) / (high - low), atol=1e-6)
    assert "outside of it" in error(path=folder, pixel_range=(low, (low + images.max()) / 2))


def test_axes_that_cannot_be_told_are_asked_for(tmp_path):
    for number, shape in enumerate([(3, 8, 3), (8, 8, 7), (3, 8, 4)]):
        images = RNG.integers(0, 256, (4, *shape)).astype(np.uint8)
        feature = datasets.Array3D(shape, "uint8")
        folder = parquet_folder(tmp_path / str(number), images, feature)
        text = error(path=folder)
        assert 'data.image_axes="HWC"' in text
        assert str(shape) in text
        assert data.load(Data(path=folder, image_axes="HWC")).input_shape == shape
        first = data.load(Data(path=folder, image_axes="CHW"))
        assert first.input_shape == (*shape[1:], shape[0])
        np.testing.assert_array_equal(first.train.inputs, np.moveaxis(images, 1, -1))


def palette() -> Image.Image:
    return Image.fromarray(COLOR).quantize(16)


@pytest.mark.parametrize("order", ["grey first", "grey last"])
@pytest.mark.parametrize("kind", ["RGB", "RGBA", "P", "CMYK", "LA"])
def test_one_grey_picture_takes_nothing_from_the_others(tmp_path, order, kind):
    grey = Image.fromarray((RAMP * 4).astype(np.uint8))
    other = palette() if kind == "P" else Image.fromarray(COLOR).convert(kind)
    pictures = [grey, other] if order == "grey first" else [other, grey]
    end = "tiff" if kind == "CMYK" else "png"
    loaded = data.load(Data(path=picture_folder(tmp_path / "set", pictures, end)))
    wanted = "L" if kind == "LA" else "RGB"
    rows = [np.asarray(each.convert(wanted)) for each in pictures]
    if kind == "LA":
        rows = [row[..., None] for row in rows]
    np.testing.assert_array_equal(loaded.train.inputs[:2], np.stack(rows))
    stored = loaded.describe()["pixels"]["stored"]
    assert "L (4)" in stored
    assert f"{kind} (4)" in stored


def test_pictures_of_two_depths_are_refused(tmp_path):
    pictures = [
        Image.fromarray((RAMP * k).astype(t)) for k, t in ((4, np.uint8), (1024, np.uint16))
    ]
    text = error(path=picture_folder(tmp_path / "set", pictures))
    assert "I;16 (4), L (4)" in text


def test_what_is_transparent_needs_a_background(tmp_path):
    ink = np.zeros((8, 8, 4), np.uint8)  # a black stroke: its shape is in the transparency alone
    ink[2:5, 3, 3] = 255
    folder = picture_folder(tmp_path / "set", [Image.fromarray(ink)])
    assert 'data.background="white"' in error(path=folder)
    loaded = data.load(Data(path=folder, background="white"))
    expected = np.where(ink[..., 3:] == 255, 0, 255)
    np.testing.assert_array_equal(loaded.train.inputs[0], np.broadcast_to(expected, (8, 8, 3)))
    assert not data.load(Data(path=folder, background="black")).train.inputs.any()


def encoded(array, end="png") -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, end)
    return file.getvalue()


class TestWithoutMetadata:
    def test_bytes_of_files(self, tmp_path):
        images = [(RAMP * k).astype(np.uint8) for k in (1, 2, 3, 4)]
        folder = parquet_folder(tmp_path / "set", [encoded(each) for each in images])
        loaded = data.load(Data(path=folder))
        np.testing.assert_array_equal(loaded.train.inputs[..., 0], images)

    def test_pairs_of_bytes_and_path(self, tmp_path):
        images = [(RAMP * k).astype(np.uint16) for k in (100, 200, 300, 400)]
        rows = [{"bytes": encoded(each), "path": None} for each in images]
        loaded = data.load(Data(path=parquet_folder(tmp_path / "set", rows)))
        np.testing.assert_array_equal(loaded.train.inputs[..., 0], images)

    def test_lists_of_rows(self, tmp_path):
        images = RNG.random((4, 8, 8))
        loaded = data.load(Data(path=parquet_folder(tmp_path / "set", images.tolist())))
        np.testing.assert_allclose(loaded.train.inputs[..., 0], images, atol=1e-6)

    def test_what_is_no_picture_is_named(self, tmp_path):
        raw = parquet_folder(tmp_path / "raw", [RAMP.astype(np.uint8).tobytes()] * 4)
        text = error(path=raw)
        assert "binary" in text
        assert "encode raw pixels as PNG" in text
        assert "no image file" in error(path=raw, image_column="image")
        flat = parquet_folder(tmp_path / "flat", RAMP.reshape(1, -1).repeat(4, 0).tolist())
        assert "list of rows" in error(path=flat)
        assert "data.image_column" in error(path=flat, image_column="label")
        ragged = [RAMP[:4].tolist(), RAMP.tolist()] * 2
        assert "several sizes" in error(path=parquet_folder(tmp_path / "ragged", ragged))


def test_keys_without_a_meaning_are_refused(tmp_path):
    assert "data.pixel_range" in error(name="digits", pixel_range=(0.0, 1.0))
    folder = picture_folder(tmp_path / "set", [Image.fromarray(COLOR)])
    assert "data.image_axes" in error(path=folder, image_axes="CHW")
    feature = datasets.Array2D((8, 8), "float32")
    arrays = parquet_folder(tmp_path / "arrays", RNG.random((4, 8, 8)), feature)
    assert "data.background" in error(path=arrays, background="white")


def test_a_range_upside_down_is_refused():
    from train_setup import tiny

    with pytest.raises(ConfigError, match=r"data\.pixel_range.*larger one of white"):
        tiny(data={"pixel_range": [1, 0]})


def test_tasks_take_every_range_to_the_same_pixels(tmp_path):
    """Bytes, 16 bits and floats of one picture give one network the same inputs."""
    from train_setup import tiny

    from train.tasks import make_problem

    base = RNG.integers(0, 256, (8, 8, 8))
    found = []
    for name, images in (
        ("bytes", base.astype(np.uint8)),
        ("deep", (base * 257).astype(np.uint16)),
        ("floats", (base / 255).astype(np.float32)),
    ):
        feature = datasets.Array2D((8, 8), str(images.dtype))
        config = tiny(
            data={"path": parquet_folder(tmp_path / name, images, feature), "batch_size": 4}
        )
        problem = make_problem(config, data.load(config.data))
        xs, _ = problem.prepare({key: rows[:4] for key, rows in problem.examples.items()})
        found.append(np.asarray(xs))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    np.testing.assert_allclose(found[0], found[2], atol=1e-6)
    assert found[0].max() > 0.9


def test_the_record_says_how_pictures_were_read(tmp_path):
    from train.environment import describe

    folder = picture_folder(tmp_path / "set", [Image.fromarray((RAMP * 1024).astype(np.uint16))])
    found = describe(data.load(Data(path=folder)), 2)["data"]
    assert found["pixels"] == {"range": [0, 65535], "stored": "I;16 (4)", "axes": "HWC"}
    assert found["input_shape"] == [8, 8, 1]
