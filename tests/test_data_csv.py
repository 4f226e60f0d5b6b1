"""Tables of numbers: what is read, what is refused and how that is said."""

import os

import numpy as np
import pytest
from train_setup import tiny

from train import data
from train.data import _csv
from train.data._csv import header, read_csv
from train.errors import ConfigError, DataError
from train.sections import Data

VALUES = [[1.5, -2.0, 3e-4], [4.0, 5.0, 6.0]]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1.5,-2,3e-4\n4,5,6\n", "1 2 3"),
        ("a,b,c\n1.5,-2,3e-4\n4,5,6\n", "a b c"),
        ("a;b;c\n1.5;-2;3e-4\n4;5;6", "a b c"),
        ("a\tb\tc\r\n1.5\t-2\t3e-4\r\n4\t5\t6\r\n", "a b c"),
        ('"a";"b";"c"\n"1.5";-2;3e-4\n\n4;5;6\n\n', "a b c"),
        ("a, b , c\n 1.5, -2 ,3e-4\n4 ,5,6", "a b c"),
        ("\ufeffa,b,c\n1.5,-2,3e-4\n4,5,6", "a b c"),
        # The separator is the one that cuts every line alike, not the most frequent one.
        ('"a,x,y,z";"b";"c"\n1.5;-2;3e-4\n4;5;6', "a,x,y,z b c"),
        ("a;1,b;2,c;3\n1.5,-2,3e-4\n4,5,6", "a;1 b;2 c;3"),
        ('"a\nx",b,c\n1.5,-2,3e-4\n4,5,6', "a\nx b c"),
    ],
)
def test_formats(tmp_path, text, names):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode())
    table = read_csv(path)
    assert table.names == tuple(names.split(" "))
    assert header(path) == table.names
    np.testing.assert_array_equal(table.values, VALUES)
    assert table.values.dtype == np.float64
    some = read_csv(path, [2, 0])
    assert some.names == (table.names[2], table.names[0])
    np.testing.assert_array_equal(some.values, np.asarray(VALUES)[:, [2, 0]])


def test_one_column(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("x\n1\n2\n")
    np.testing.assert_array_equal(read_csv(path).values, [[1], [2]])


def test_columns_that_are_not_kept_may_hold_anything(tmp_path):
    path = tmp_path / "iris.data"
    path.write_text("5.1,3.5,Iris-setosa,\n6.0,2.5,Iris-virginica,nan\n")
    # A first line with a number in it is no header: no row is lost.
    np.testing.assert_array_equal(read_csv(path, [0, 1]).values, [[5.1, 3.5], [6.0, 2.5]])


def test_many_rows_are_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(_csv, "_BLOCK_CELLS", 10)
    values = np.random.default_rng(0).standard_normal((107, 3))
    path = tmp_path / "table.csv"
    np.savetxt(path, values, delimiter=",", fmt="%.17g")
    np.testing.assert_array_equal(read_csv(path).values, values)
    lines = path.read_text().splitlines()
    lines[90] = "1,2,x"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match="line 91, column 3"):
        read_csv(path)


def refusal(path, **options) -> str:
    with pytest.raises(DataError) as caught:
        data.load(Data(path=str(path), **options))
    text = str(caught.value)
    assert len(text) < 1500
    return text


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"a,b\n", "a header and no rows"),
        (b"1,2\n", "1 row"),
        (b"a,b\n1,2\n3\n", "line 3: has 1 columns, expected 2"),
        (b"a,b\n1,2\n3,4,5\n", "line 3: has 3 columns, expected 2"),
        (b"a,b\n1,2\n3,4,\n", "line 3: has 3 columns"),
        (b"a,b\n1,2\n3,\n", "line 3, column 2 (b): got '', expected a finite number. Drop or fill"),
        (b"a,b\n1,2\n3,nan\n", "line 3, column 2 (b): got 'nan'"),
        (b"a,b\n1,2\n-inf,4\n", "line 3, column 1 (a): got '-inf'"),
        (b"1,2\n3,1e999\n", "line 2, column 2: got '1e999'"),
        (b"a,b\n1,2\n\n\n3,cat\n", "line 5, column 2 (b): got 'cat'"),
        (b"a,b\n1,cat\n3,4\n", "line 2, column 2 (b): got 'cat', expected a finite number. Leave"),
        (b"5.1,Iris-setosa\n4.9,Iris-setosa\n", "line 1, column 2: got 'Iris-setosa'"),
        (b"a;b\n1,5;2,5\n3,5;4,5\n", "line 2, column 1 (a): got '1,5', expected a finite number. "
         "Write decimals with a point"),
        (b"a,b\n1_000,2\n3,4\n", "line 2, column 1 (a): got '1_000'"),
        (b"a,b\n1,2\n3,\x00\n", "line 3, column 2 (b): got '\\x00'"),
        (b"1 2 3\n4 5 6\n7 8 x\n", "line 2, column 1 (1 2 3): got '4 5 6'"),
        (b'a,b\n1,"2\n3,4\n', "line 3: unexpected end of data"),
        (b'a,b\n1,"2"x\n3,4\n', "line 2: "),
        (b"a,b\n1,2\n3," + b"9" * 200_000 + b"\n", "line 3: field larger than field limit"),
        (b"a,b\n1,2\n3,\xff\n", "not UTF-8"),
        ("a,b\n1,2\n3,4\n".encode("utf-16"), "not UTF-8"),
        (b"a,b\n1,2\n3,1e200\n", "holds 1e+200, expected numbers below 3e38"),
    ],
)  # fmt: skip
def test_what_can_be_wrong_with_a_file(tmp_path, content, says):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    text = refusal(path)
    assert says in text
    assert str(path) in text
    assert refusal(path, name="csv") == text


def test_a_file_that_is_absent_too_large_or_no_file(tmp_path):
    assert "No such file" in refusal(tmp_path / "absent.csv", name="csv")
    assert "does not exist" in refusal(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "holds 0 tables (none)" in refusal(tmp_path / "folder.csv", name="csv")
    with pytest.raises(DataError, match="is no file"):
        read_csv(tmp_path)
    large = tmp_path / "large.csv"
    large.write_text("1,2\n")
    os.truncate(large, 2**31 + 1)  # sparse: it takes no space
    assert "holds 2.0 GiB, expected at most 2 GiB" in refusal(large)
    endless = tmp_path / "endless.csv"
    endless.write_text("1,2\n")
    os.truncate(endless, 2**25)
    assert "line 2: is longer than 16 MiB" in refusal(endless)
    with pytest.raises(DataError, match=r"data\.path is missing"):
        data.load(Data(name="csv"))


@pytest.fixture
def table(tmp_path):
    """Twenty rows of a = 0.., b = 10 a, c = 100 a, and labels 3, 5."""
    path = tmp_path / "table.csv"
    a = np.arange(20.0)
    rows = np.stack([a, 10 * a, 100 * a, 3 + 2 * (a % 2)], 1)
    np.savetxt(path, rows, delimiter=";", header="a;b;c;quality", comments="", fmt="%g")
    return path


def loaded(path, **options):
    return data.load(tiny(data={"name": "csv", "path": str(path), **options}).data)


class TestColumns:
    def test_a_path_alone_is_a_density(self, table):
        found = data.load(Data(path=str(table)))
        assert (len(found.train), len(found.test)) == (16, 4)
        assert found.train.inputs.dtype == np.float32
        assert found.train.targets is None
        assert found.name == str(table)
        rows = np.concatenate([found.train.inputs, found.test.inputs])
        np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], read_csv(table).values)
        assert data.load(Data(path=str(table))).fingerprint() == found.fingerprint()
        assert loaded(table).fingerprint() == found.fingerprint()
        assert loaded(table, seed=1).fingerprint() != found.fingerprint()
        assert len(loaded(table, test_fraction=0.5).test) == 10
        # Another built-in's name gives way to the path.
        same = data.load(Data(name="two-moons", path=str(table)))
        assert same.fingerprint() == found.fingerprint()

    @pytest.mark.parametrize("targets", [["c", "b"], [3, 2], ["c", 2]])
    def test_targets(self, table, targets):
        found = loaded(table, target_columns=targets, columns=["a"])
        assert found.describe()["target_shape"] == [2]
        for split in (found.train, found.test):
            assert isinstance(split.targets, np.ndarray)
            assert split.targets.dtype == np.float32
            np.testing.assert_array_equal(split.targets, split.inputs * [100, 10])

    def test_one_target_needs_no_list(self, table):
        found = loaded(table, target_columns="quality")
        assert found.input_shape == (3,)
        assert found.train.targets.shape == (16, 1)
        assert found.classes == ()

    def test_labels(self, table):
        found = loaded(table, label_column="quality", samples_per_class=5)
        assert found.classes == ("3", "5")
        assert found.train.targets.dtype == np.int32
        np.testing.assert_array_equal(np.bincount(found.train.targets), 5)
        np.testing.assert_array_equal(np.bincount(found.test.targets), 2)
        np.testing.assert_array_equal(found.test.targets, found.test.inputs[:, 0] % 2)
        without_header = table.with_name("bare.csv")
        without_header.write_text(table.read_text().split("\n", 1)[1])
        assert loaded(without_header, label_column="4").classes == ("3", "5")

    def test_standardize(self, table):
        found = loaded(table, standardize=True, columns=["a", "c"], target_columns=["b"])
        np.testing.assert_allclose(found.train.inputs.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(found.train.inputs.std(0), 1, rtol=1e-6)
        raw = loaded(table, columns=["a", "c"], target_columns=["b"])
        np.testing.assert_array_equal(found.test.targets, raw.test.targets)
        # By the training rows: the test rows are only carried along.
        expected = (raw.test.inputs - raw.train.inputs.mean(0)) / raw.train.inputs.std(0)
        np.testing.assert_allclose(found.test.inputs, expected, rtol=1e-5)

    def test_a_folder(self, table):
        assert loaded(table.parent).name == str(table)
        assert len(data.load(Data(path=str(table.parent))).train) == 16
        table.with_name("other.tsv").write_text("1\t2\n")
        text = refusal(table.parent)
        assert "2 tables (other.tsv, table.csv)" in text

    def test_a_folder_that_is_split(self, tmp_path):
        (tmp_path / "train.csv").write_text("a,y\n1,0\n2,1\n3,1\n")
        (tmp_path / "test.csv").write_text("a,y\n4,2\n5,0\n")
        found = loaded(tmp_path, label_column="y")
        np.testing.assert_array_equal(found.train.inputs[:, 0], [1, 2, 3])
        np.testing.assert_array_equal(found.train.targets, [0, 1, 1])
        np.testing.assert_array_equal(found.test.targets, [2, 0])
        assert found.classes == ("0", "1", "2")
        (tmp_path / "test.csv").write_text("b,y\n4,2\n5,0\n")
        assert "expected those of" in refusal(tmp_path)

    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"columns": ["d"]}, "data.columns: got 'd', but"),
            ({"columns": [5]}, "number from 1 to 4 of its columns a, b, c, quality"),
            ({"columns": ["a", 1]}, "column 1 of"),
            ({"columns": ["a", "b"], "target_columns": ["b"]}, "column 2 (b)"),
            ({"target_columns": ["a", "b", "c", "quality"]}, "is left as an input"),
            ({"target_columns": "qualty"}, "data.target_columns: got 'qualty'"),
            ({"label_column": "q"}, "data.label_column: got 'q'"),
            ({"label_column": "quality", "target_columns": "a"}, "expected one of them"),
            ({"columns": ["a"], "label_column": "half"}, "no such column"),
            ({"samples_per_class": 2}, "no class labels"),
            ({"mean": [0.0, 1.0]}, "4 channels"),
        ],
    )
    def test_columns_that_do_not_fit(self, table, options, says):
        with pytest.raises(DataError) as caught:
            loaded(table, **options)
        assert says in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "options", "says"),
        [
            ("a,a\n1,2\n3,4\n", {"columns": ["a"]}, "several columns of that name"),
            ("a,b\n1,2\n3,2\n4,2\n", {"standardize": True}, "column b is constant"),
            ("a,b\n1,0.5\n3,2\n", {"label_column": "b"}, "column b: got 0.5, expected whole"),
            ("a,b\n1,1\n3,2\n", {"label_column": "b"}, "data.test_fraction"),
        ],
    )
    def test_tables_that_do_not_fit(self, tmp_path, text, options, says):
        path = tmp_path / "table.csv"
        path.write_text(text)
        with pytest.raises(DataError) as caught:
            loaded(path, **options)
        assert says in str(caught.value)

    @pytest.mark.parametrize("columns", [0, [0], [1.5], "", {"a": 1}, True])
    def test_columns_that_are_none(self, columns):
        with pytest.raises(ConfigError, match=r"data\.columns"):
            tiny(data={"name": "csv", "columns": columns})
