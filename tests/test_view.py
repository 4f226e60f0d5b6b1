"""`python -m train.view`: what it reads, marks and draws, and that its page is whole."""

import base64
import html.parser
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from train import evaluation, figures, records
from train.data import Examples
from train.view import changed_keys, metric_rows, pictures, read_runs
from train.view.__main__ import main
from train.view._pictures import drawings

PNG = b"\x89PNG"


def write_run(workdir, *, accuracy, norm, weight, status="finished", arrays=True):
    """A workdir with every record that a run may leave, made by hand."""
    workdir.mkdir(parents=True)
    (workdir / "config.toml").write_text(
        f'[experiment]\nname = "made"\nseed = 3\n[[penalty]]\nname = "p"\nweight = {weight}\n'
    )
    log = records.MetricsLog(workdir / records.METRICS)
    for step in (10, 20):
        log.append(step, {"train/loss": norm / step, "test/accuracy": accuracy - 1 / step})
    metrics = {
        "test/accuracy": accuracy,
        "test/jacobian_norm": norm,
        "test/loss": float("nan"),
        "test/accuracy_noise_0.1": accuracy - 0.1,
        "test/accuracy_pgd_0.05": accuracy - 0.4,
    }
    if status != "running":
        summary = {"status": status, "steps": 20, "metrics": metrics}
        records.write_json(workdir / records.SUMMARY, summary)
    if not arrays:
        return workdir
    rng = np.random.default_rng(0)
    names = np.array(["<zero>", "one", "two"])
    classes = rng.integers(0, 3, (8, 8))
    corners, extent = rng.normal(size=(3, 2)), np.array([-1.0, 1, -1, 1])
    cells = {"classes": classes, "corners": corners, "extent": extent}
    records.write_arrays(workdir / figures.CELLS, {**cells, "labels": np.arange(3), "names": names})
    seen = {
        "singular_values": norm * np.sort(rng.random((5, 3)))[:, ::-1],
        "images": np.random.default_rng(1).random((3, 6, 6, 1)),
        "maps": norm * rng.normal(size=(3, 6, 6, 1)),
        "labels": np.arange(3),
        "names": names,
    }
    records.write_arrays(workdir / figures.SENSITIVITY, seen)
    samples, examples = rng.normal(size=(2, 20, 2))
    arrays = {"samples": samples, "examples": examples}
    records.write_arrays(workdir / figures.SAMPLES, arrays)
    density = {**arrays, "density": rng.random((6, 6)), "extent": np.array([-2.0, 2, -2, 2])}
    records.write_arrays(workdir / figures.DENSITY, density)
    return workdir


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    plain = write_run(folder / "plain", accuracy=0.9, norm=20.0, weight=0.0)
    return [plain, write_run(folder / "pen<alised", accuracy=0.95, norm=2.0, weight=0.01)]


@pytest.fixture(scope="module")
def viewed(two, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "view"
    assert main([*map(str, two), "--out", str(out)]) == 0
    return out


class Page(html.parser.HTMLParser):
    """Tags that are open, and every address that the page names."""

    VOID = ("meta", "link", "img", "source")

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.shown = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        names = {"src", "href", "srcset"}
        self.addresses += [value for name, value in attrs if name in names]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.shown.append(data)


class TestPage:
    def test_it_is_one_whole_file(self, viewed):
        page = Page((viewed / "index.html").read_text())
        assert page.open == []
        assert len(page.addresses) > 10
        assert all(address.startswith("data:") for address in page.addresses)
        assert "@import" not in (viewed / "index.html").read_text()
        for address in page.addresses[1:]:
            assert base64.b64decode(address.partition("base64,")[2])[:4] == PNG

    def test_every_picture_is_there_light_and_dark(self, viewed):
        text = (viewed / "index.html").read_text()
        drawn = sorted(path.stem for path in viewed.glob("*.png"))
        expected = ["curves", "decision_cells", "density_1", "density_2", "perturbed_accuracy"]
        assert drawn == [*expected, "samples_1", "samples_2", "sensitivity", "spectra"]
        assert text.count("<img ") == text.count('media="(prefers-color-scheme: dark)"') == 9
        pairs = re.findall(r'srcset="data:image/png;base64,([^"]+)".*?src="[^,]+,([^"]+)"', text)
        for dark, light in pairs:
            assert dark != light
        light = base64.b64decode(pairs[0][1])
        assert (viewed / "curves.png").read_bytes() == light

    def test_paper_is_white_and_dark(self, tmp_path):
        import matplotlib.image

        run = write_run(tmp_path / "r", accuracy=0.5, norm=1.0, weight=0.0, arrays=False)
        (picture, *_) = pictures(read_runs([run]), tmp_path)
        (tmp_path / "dark.png").write_bytes(picture.dark)
        corners = [matplotlib.image.imread(path)[0, 0, :3] for path in (picture.light, tmp_path / "dark.png")]  # fmt: skip  # noqa: E501
        assert np.min(corners[0]) == 1.0
        assert np.max(corners[1]) < 0.2

    def test_names_are_escaped(self, viewed):
        text = (viewed / "index.html").read_text()
        assert "pen&lt;alised" in text
        assert "pen<alised" not in text
        assert "pen<alised" in "".join(Page(text).shown)


class TestTables:
    def test_the_best_is_marked_where_it_has_a_meaning(self, two):
        rows = {row.name: row for row in metric_rows(read_runs(two))}
        assert rows["test/accuracy"].cells == ["90.00 %", "95.00 %"]
        assert rows["test/accuracy"].best == {1}
        assert rows["test/jacobian_norm"].best == frozenset()  # not judged
        assert rows["test/loss"] == ("test/loss", ["-", "-"], frozenset())
        assert rows["status"].cells == ["finished", "finished"]

    def test_equal_values_are_not_marked(self, two):
        rows = {row.name: row for row in metric_rows(read_runs([two[0], two[0]]))}
        assert rows["test/accuracy"].best == frozenset()

    def test_what_differs_in_the_configs(self, two):
        (row,) = changed_keys(read_runs(two))
        assert row[:2] == ("penalty.0.weight", ["0.0", "0.01"])

    def test_a_run_that_still_goes_shows_its_log(self, tmp_path):
        workdir = write_run(tmp_path / "r", accuracy=0.5, norm=1.0, weight=0.0, status="running")
        rows = {row.name: row.cells for row in metric_rows(read_runs([workdir]))}
        assert rows["status"] == ["running"]
        assert rows["steps"] == ["20"]
        assert rows["test/accuracy"] == ["45.00 %"]


class TestCommand:
    def test_titles_tell_runs_apart(self, two, tmp_path):
        other = write_run(tmp_path / "other" / "plain", accuracy=0.5, norm=1.0, weight=0.0)
        titles = [run.title for run in read_runs([two[0], other])]
        assert titles == [f"{two[0].parent.name}/plain", "other/plain"]

    @pytest.mark.parametrize("name", ["absent", "empty"])
    def test_no_run_is_one_message_and_exit_2(self, name, tmp_path, capsys):
        (tmp_path / "empty").mkdir()
        assert main([str(tmp_path / name), "--out", str(tmp_path / "out")]) == 2
        shown = capsys.readouterr().err
        assert shown.startswith("error: WORKDIR")
        assert shown.count("\n") == 1
        assert not (tmp_path / "out").exists()

    def test_it_speaks_before_it_imports_anything_slow(self, tmp_path):
        run = write_run(tmp_path / "r", accuracy=0.5, norm=1.0, weight=0.0, arrays=False)
        code = (
            "import sys\nfrom train.view import __main__ as view\n"
            "def say(text):\n    print(text, {'jax', 'matplotlib'} & set(sys.modules))\n"
            "    sys.exit()\n"
            f"view.say = say\nview.main([{str(run)!r}])\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stdout == "view: 1 run is read, then drawn set()\n", done.stderr

    def test_its_own_folder_is_left_out(self, tmp_path, capsys):
        run = write_run(tmp_path / "r", accuracy=0.5, norm=1.0, weight=0.0, arrays=False)
        for _ in range(2):  # as `runs/*` does the second time
            assert main([*map(str, sorted(tmp_path.iterdir()))]) == 0
            assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "view" / "index.html")
        assert run.name in (tmp_path / "view" / "index.html").read_text()

    def test_a_torn_record_is_left_out(self, tmp_path):
        workdir = write_run(tmp_path / "r", accuracy=0.5, norm=1.0, weight=0.0)
        (workdir / figures.CELLS).write_bytes(b"PK\x03\x04 torn")
        stems = [each.name for each in drawings(read_runs([workdir]))]
        assert "decision_cells" not in stems
        assert "spectra" in stems

    def test_other_classes_get_a_picture_of_their_own(self, two, tmp_path):
        other = write_run(tmp_path / "r", accuracy=0.5, norm=1.0, weight=0.0)
        arrays = records.read_arrays(other / figures.CELLS)
        records.write_arrays(other / figures.CELLS, {**arrays, "names": np.array(["a", "b", "c"])})
        for run in (two[0], other):
            assert (run / figures.CELLS).exists()
        stems = [each.name for each in drawings(read_runs([two[0], other]))]
        assert {"decision_cells_1", "decision_cells_2"} <= set(stems)


class TestTensorboard:
    def test_scalars_come_back(self, tmp_path):
        pytest.importorskip("tensorboardX", reason='pip install -e ".[tensorboard]"')
        folder = tmp_path / "events"
        run = write_run(tmp_path / "plain", accuracy=0.9, norm=20.0, weight=0.0, arrays=False)
        arguments = [str(run), "--out", str(tmp_path / "out"), "--tensorboard", str(folder)]
        assert main(arguments) == 0
        (file,) = (folder / "plain").iterdir()
        found = scalars(file)
        assert found["test/accuracy"] == [(10, pytest.approx(0.8)), (20, pytest.approx(0.85))]
        assert found["final/test/jacobian_norm"] == [(20, 20.0)]
        assert main(arguments) == 2  # it would draw both

    def test_without_the_library_it_says_what_to_install(self, two, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
        arguments = [str(two[0]), "--out", str(tmp_path / "out"), "--tensorboard", str(tmp_path)]
        assert main(arguments) == 2
        assert "pip install" in capsys.readouterr().err


def scalars(file):
    """The scalars of an event file: records of a length, two checksums and a protobuf."""
    from tensorboardX.proto.event_pb2 import Event

    content, found = file.read_bytes(), {}
    while content:
        length = int.from_bytes(content[:8], "little")
        event = Event()
        event.ParseFromString(content[12 : 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
        content = content[16 + length :]
    return found


class TestSensitivity:
    SHAPE = (4, 3, 3)  # height, width, channels
    WEIGHTS = np.random.default_rng(0).normal(size=(36, 3)).astype(np.float32)

    def record(self, axes, count=7):
        rng = np.random.default_rng(1)
        images = rng.integers(0, 256, (count, *self.SHAPE), dtype=np.uint8)
        labels = np.array([2, 0, 2, 1, 0, 1, 0] * 9)[:count]
        back = (0, *(1 + np.argsort([axis - 1 for axis in axes[1:]])))

        def logits(weights, xs):
            return jnp.transpose(xs, back).reshape(len(xs), -1) @ weights

        model = evaluation.Classifier(logits, lambda raw: raw / jnp.float32(255), lambda xs: xs)
        examples = Examples(np.transpose(images, axes), labels)
        return evaluation.sensitivity(model, self.WEIGHTS, examples, axes), images, labels

    @pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2), (0, 2, 1, 3)])
    def test_maps_of_a_linear_model_are_its_weights(self, axes):
        record, images, labels = self.record(axes)
        assert record["labels"].tolist() == [2, 0, 1]
        for row, label, image, found in zip(
            (0, 1, 3), record["labels"], record["images"], record["maps"], strict=True
        ):
            assert labels[row] == label
            np.testing.assert_allclose(image, images[row] / 255, rtol=1e-6)
            np.testing.assert_allclose(found, self.WEIGHTS[:, label].reshape(self.SHAPE))

    @pytest.mark.parametrize("count", [1, 7, 45])
    def test_singular_values(self, count):
        record, *_ = self.record((0, 1, 2, 3), count)
        truth = np.linalg.svd(self.WEIGHTS, compute_uv=False)
        assert record["singular_values"].shape == (count, 3)
        np.testing.assert_allclose(record["singular_values"], np.tile(truth, (count, 1)), rtol=1e-5)


def test_an_accuracy_is_not_drawn_above_one_and_panels_share_their_steps():
    plt = figures.pyplot()
    figure, axes = plt.subplots(1, 2)
    lines = [{"step": 50, "loss": 1.0}, {"step": 100, "loss": 0.01, "accuracy": 1.0}]
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        values = [line[name] for line in lines if name in line]
        axis.plot([line["step"] for line in lines if name in line], values)
        figures.against_steps(axis, name, values, lines)
    assert axes[1].get_ylim()[1] == 1.01
    assert axes[0].get_xlim() == axes[1].get_xlim() == (0, 102)
    assert [axis.get_yscale() for axis in axes] == ["log", "linear"]
    plt.close(figure)


def test_help_names_what_it_draws(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "sensitivity maps" in capsys.readouterr().out
