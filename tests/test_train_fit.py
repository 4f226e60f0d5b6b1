"""`train.fit`: a model and data from Python, trained, recorded and resumed as a config's run."""

import json
import os
import shutil
import signal
import traceback

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import own_models
import pytest
from flax import linen, nnx
from train_setup import train_cache, undrawn  # noqa: F401

import jacreg
import train
from train import records
from train.errors import DivergedError, Interrupted, UserError, WorkdirError

pytestmark = pytest.mark.usefixtures("train_cache", "undrawn")

RNG = np.random.default_rng(0)
CENTERS = 3 * RNG.normal(size=(3, 6))
LABELS = np.arange(150) % 3
INPUTS = (CENTERS[LABELS] + RNG.normal(size=(150, 6))).astype(np.float32)
SPLITS = {"train": (INPUTS[:120], LABELS[:120]), "test": (INPUTS[120:], LABELS[120:])}


def normed(seed=0):
    return own_models.Normed(6, 3, rngs=nnx.Rngs(seed))


def dense(outputs=3, inputs=6):
    return eqx.nn.MLP(inputs, outputs, 8, 1, key=jax.random.key(0))


def half_squared(lin, key):
    return jacreg.losses.jacobian_penalty(lin, key=key)


def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder): path.read_bytes() for path in files}


def without_key(lin):
    return half_squared(lin, None)


def wrong_cotangent(lin, key):
    found = lin.vjp(lin.value[:, 0])
    return (found**2).sum(1)


ARGUMENTS = {
    "penalties": [{"name": "jacobian", "weight": 0.01}, (0.02, half_squared)],
    "steps": 120,
    "batch_size": 30,
    "optimizer": optax.adam(1e-2),
    "seed": 2,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, train_cache):  # noqa: F811
    """A run of an nnx network with BatchNorm and dropout that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("whole")
    model = normed()
    before = nnx.state(model, nnx.Param)
    found = train.fit(model, SPLITS, workdir=workdir / "run", **ARGUMENTS)
    same = jax.tree.map(np.array_equal, before, nnx.state(model, nnx.Param))
    assert all(jax.tree.leaves(same)), "the given model is left alone"
    return found


class TestNnx:
    def test_the_fit(self, whole):
        assert isinstance(whole.model, own_models.Normed)
        assert whole.state is None
        summary = json.loads((whole.workdir / "summary.json").read_text())
        assert summary["metrics"] == whole.metrics
        assert summary["status"] == "finished"
        assert whole.metrics["test/accuracy"] > 0.9
        assert "test/accuracy" in repr(whole)

    def test_the_model_is_the_one_that_was_measured(self, whole):
        whole.model.eval()
        xs, labels = SPLITS["test"]
        logits = whole.model(jnp.asarray(xs))
        assert np.mean(np.argmax(logits, 1) == labels) == pytest.approx(
            whole.metrics["test/accuracy"]
        )
        lin = jacreg.linearize(jacreg.nnx.function(whole.model), jnp.asarray(xs))
        norms = jnp.sqrt(jacreg.frobenius_squared(lin, jacreg.Exact()))
        assert float(norms.mean()) == pytest.approx(whole.metrics["test/jacobian_norm"], rel=1e-4)
        assert np.any(whole.model.norm.mean[...] != 0), "running statistics were trained too"

    def test_records_and_figures(self, whole):
        names = {path.name for path in whole.workdir.iterdir()}
        assert {"config.toml", "environment.json", "metrics.jsonl", "checkpoints"} <= names
        assert (whole.workdir / "figures" / "curves.png").exists()
        model = records.read_json(whole.workdir / "environment.json")["model"]
        assert model["target"] == "own_models:Normed"
        assert model["file"].endswith("own_models.py")
        assert len(model["sha256"]) == 64
        lines = records.MetricsLog(whole.workdir / "metrics.jsonl").read()
        assert {"train/penalty/jacobian", "train/penalty/half_squared"} <= set(lines[0])
        config = (whole.workdir / "config.toml").read_text()
        assert 'name = "half_squared"' in config
        assert 'target = "own_models:Normed"' in config

    def test_a_stopped_run_goes_on_bit_for_bit(self, whole, tmp_path, monkeypatch, capsys):
        append = records.MetricsLog.append

        def stopping(self, step, metrics):
            append(self, step, metrics)
            os.kill(os.getpid(), signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(records.MetricsLog, "append", stopping)
            with pytest.raises(Interrupted, match=r"The same call goes on from there") as caught:
                train.fit(normed(), SPLITS, workdir=tmp_path / "run", **ARGUMENTS)
        assert records.read_json(tmp_path / "run" / "summary.json")["status"] == "interrupted"
        assert isinstance(caught.value, KeyboardInterrupt)
        assert not isinstance(caught.value, Exception)
        assert caught.value.signal_number == signal.SIGINT
        (tmp_path / "run").rename(tmp_path / "moved")
        capsys.readouterr()
        found = train.fit(normed(), SPLITS, workdir=tmp_path / "moved", quiet=True, **ARGUMENTS)
        assert capsys.readouterr().out == ""
        assert found.metrics == whole.metrics
        for name in ("metrics.jsonl", "config.toml"):
            text = (found.workdir / name).read_text().replace('name = "moved"', 'name = "run"')
            assert text == (whole.workdir / name).read_text()
        for kind in (nnx.Param, nnx.BatchStat):
            same = jax.tree.map(
                np.array_equal, nnx.state(found.model, kind), nnx.state(whole.model, kind)
            )
            assert all(jax.tree.leaves(same))
        digests = [
            records.read_json(each.workdir / "summary.json")["params_sha256"]
            for each in (found, whole)
        ]
        assert digests[0] == digests[1]

    def test_a_finished_one_is_returned(self, whole):
        again = train.fit(normed(), SPLITS, workdir=whole.workdir, **ARGUMENTS)
        assert again.metrics == whole.metrics
        same = jax.tree.map(
            np.array_equal, nnx.state(again.model, nnx.Param), nnx.state(whole.model, nnx.Param)
        )
        assert all(jax.tree.leaves(same))

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                {"steps": 121},
                "run: belongs to a run of another config. Changed: steps: 120 -> 121.",
            ),
            ({"seed": 3}, "seed: 2 -> 3. Use another workdir, or"),
            (
                {"penalties": ARGUMENTS["penalties"][:1]},
                "Changed: penalty.1: 'half_squared' -> absent. ",
            ),
            ({"batch_size": 20}, "Changed: batch_size: 30 -> 20. "),
        ],
    )
    def test_another_call_is_refused(self, whole, change, said):
        with pytest.raises(WorkdirError, match=r"^workdir=/.* another config") as caught:
            train.fit(normed(), SPLITS, workdir=whole.workdir, **{**ARGUMENTS, **change})
        assert said in str(caught.value)

    @pytest.mark.parametrize("finished", [False, True])
    @pytest.mark.parametrize("what", ["model", "width", "data", "optimizer"])
    def test_another_model_or_data_is_refused(self, whole, tmp_path, what, finished):
        workdir = tmp_path / "run"
        shutil.copytree(whole.workdir, workdir)
        if not finished:
            (workdir / "summary.json").unlink()
        model, data, arguments = normed(), SPLITS, ARGUMENTS
        if what == "model":
            model = normed(seed=1)
        elif what == "width":
            model = own_models.Normed(6, 3, width=9, rngs=nnx.Rngs(0))
        elif what == "data":
            data = {**SPLITS, "test": (INPUTS[100:], LABELS[100:])}
        else:
            arguments = {**ARGUMENTS, "optimizer": optax.adam(2e-2)}
        before = content(workdir)
        with pytest.raises(WorkdirError, match=r"was begun (with|on) (an)?other"):
            train.fit(model, data, workdir=workdir, **arguments)
        assert content(workdir) == before


class TestEquinox:
    def test_a_network_with_state(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        pair = eqx.nn.make_with_state(own_models.Stateful)(6, 3, key=jax.random.key(0))
        found = train.fit(pair, SPLITS, **{**ARGUMENTS, "steps": 60})
        assert found.workdir is None
        assert list(tmp_path.iterdir()) == [], "without a workdir nothing is written"
        assert isinstance(found.model, own_models.Stateful)
        model = eqx.nn.inference_mode(found.model)
        logits = jax.vmap(lambda x: model(x, found.state)[0])(jnp.asarray(SPLITS["test"][0]))
        accuracy = np.mean(np.argmax(logits, 1) == SPLITS["test"][1])
        assert accuracy == pytest.approx(found.metrics["test/accuracy"])
        assert accuracy > 0.9

    def test_a_pair_is_split_and_forms_of_a_penalty_agree(self):
        forms = [
            [(0.05, half_squared)],
            [(half_squared, 0.05)],
            [{"loss": half_squared, "weight": 0.05}],
        ]
        found = [
            train.fit(dense(), (INPUTS, LABELS), penalties=form, steps=20, batch_size=30)
            for form in forms
        ]
        for each in found[1:]:
            assert each.metrics == found[0].metrics


class TestRegression:
    @pytest.mark.parametrize("outputs", ["scalar", 1])
    def test_one_number_an_example(self, outputs):
        targets = INPUTS @ np.arange(6.0)
        found = train.fit(
            dense(outputs),
            (INPUTS, targets),
            task="regression",
            penalties=[{"name": "jacobian", "weight": 1e-4}],
            steps=150,
            optimizer=optax.adam(3e-2),
        )
        assert found.metrics["test/mse"] < 0.2 * targets.var()
        assert found.metrics["test/jacobian_norm"] > 0


def test_a_data_set_by_name_and_pixels_as_bytes():
    """`uint8` inputs reach the model in [0, 1], whatever the axes."""
    seen = []

    class Watching(nnx.Module):
        def __init__(self, rngs):
            self.inner = own_models.Normed(64, 10, rngs=rngs)

        def __call__(self, xs):
            jax.debug.callback(lambda least, most: seen.append((least, most)), xs.min(), xs.max())
            return self.inner(xs)

    found = train.fit(Watching(nnx.Rngs(0)), "digits", steps=2)
    assert "test/accuracy" in found.metrics
    assert max(most for _, most in seen) <= 1.7  # noise and attacks in the evaluation
    jax.effects_barrier()
    pixels = RNG.integers(0, 256, (40, 1, 8, 8), np.uint8)
    model = own_models.ChannelsFirst(4, key=jax.random.key(0))
    found = train.fit(model, (pixels, np.arange(40) % 4), steps=2)
    assert found.metrics["test/jacobian_norm"] > 0


def test_channels_first_are_pictures_in_the_figures(tmp_path):
    images = RNG.normal(size=(40, 1, 8, 8)).astype(np.float32)
    model = own_models.ChannelsFirst(4, key=jax.random.key(0))
    found = train.fit(model, (images, np.arange(40) % 4), steps=2, workdir=tmp_path / "run")
    with np.load(found.workdir / "figures" / "sensitivity.npz") as seen:
        assert seen["images"].shape == seen["maps"].shape == (4, 8, 8, 1)
        assert any(np.array_equal(seen["images"][0], each[0, :, :, None]) for each in images)
    with np.load(found.workdir / "figures" / "decision_cells.npz") as seen:
        assert seen["images"].shape == (3, 8, 8, 1)


@pytest.mark.parametrize(
    ("framework", "shape", "said"),
    [
        ("nnx", (1, 8, 8), "It takes x.transpose(0, 2, 3, 1), channels last"),
        ("nnx", (8, 8), "It takes x[..., None], with an axis of channels"),
        ("nnx", (64,), "It takes images, x.reshape(-1, 8, 8, 1), where x"),
        ("equinox", (8, 8, 1), "It takes x.transpose(0, 3, 1, 2), channels first"),
        ("equinox", (8, 8), "It takes x[:, None], with an axis of channels"),
        ("dense", (8, 8), "It takes x.reshape(len(x), -1), one axis an example"),
        ("dense", (8, 9), None),
    ],
)
def test_inputs_of_another_order(framework, shape, said):
    make = {
        "nnx": lambda: own_models.ChannelsLast(4, rngs=nnx.Rngs(0)),
        "equinox": lambda: own_models.ChannelsFirst(4, key=jax.random.key(0)),
        "dense": lambda: dense(4, 64),
    }
    inputs = np.ones((40, *shape), np.float32)
    tasks = {"classification": np.arange(40) % 4, "regression": np.ones((40, 4), np.float32)}
    for task in tasks if framework == "nnx" else ("classification",):
        with pytest.raises(ValueError, match=r"^model: .* does not take inputs of sh") as caught:
            train.fit(make[framework](), (inputs, tasks[task]), task=task, steps=2)
        assert (said or "") in str(caught.value)
        assert ("It takes" in str(caught.value)) == (said is not None)


MISTAKES = [
    ("a class", lambda: (own_models.Normed, SPLITS, {}), "is the class: give one of its modules"),
    ("a function", lambda: (lambda x: x, SPLITS, {}), "no parameters to train"),
    ("linen", lambda: (linen.Dense(3), SPLITS, {}), "A linen module"),
    ("state forgotten", lambda: (own_models.Stateful(6, 3, key=jax.random.key(0)), SPLITS, {}),
     "make_with_state"),
    ("inputs of another shape", lambda: (dense(inputs=5), SPLITS, {}), "inputs of shape (6,)"),
    ("no array", lambda: (dense(), 3, {}), "expected a pair (inputs, targets)"),
    ("three of them", lambda: (dense(), (INPUTS, LABELS, LABELS), {}), "tuple of 3"),
    ("integers", lambda: (dense(), (LABELS[:, None], LABELS), {}), "cast them"),
    ("strings", lambda: (dense(), (INPUTS, LABELS.astype(str)), {}), "array of numbers"),
    ("nan", lambda: (dense(), (INPUTS * np.nan, LABELS), {}), "are not finite"),
    ("lengths", lambda: (dense(), (INPUTS[:9], LABELS), {}), "9 inputs, but 150 targets"),
    ("one-hot", lambda: (dense(), (INPUTS, np.eye(3)[LABELS]), {}), "np.argmax(targets, 1)"),
    ("float labels", lambda: (dense(), (INPUTS, LABELS * 1.0), {}), 'task="regression"'),
    ("negative labels", lambda: (dense(), (INPUTS, LABELS - 1), {}), "label of -1"),
    ("labels out of range", lambda: (dense(), (INPUTS, LABELS + 1), {}), "labels run to 3"),
    ("no test split", lambda: (dense(), {"train": SPLITS["train"]}, {}), "has no test split"),
    ("another split", lambda: (dense(), {**SPLITS, "valid": 3}, {}), "['valid']"),
    ("splits that differ",
     lambda: (dense(), {**SPLITS, "test": (INPUTS[:, :5], LABELS)}, {}), "one shape of an example"),
    ("unknown data", lambda: (dense(), "mnist-5kk", {}), "mnist-5k"),
    ("unknown penalty",
     lambda: (dense(), SPLITS, {"penalties": [{"name": "jacobain", "weight": 1}]}),
     'Did you mean "jacobian"'),
    ("penalty without weight", lambda: (dense(), SPLITS, {"penalties": [{"name": "jacobian"}]}),
     "penalty.0.weight is missing"),
    ("bare callable", lambda: (dense(), SPLITS, {"penalties": [half_squared]}), "needs its weight"),
    ("no list", lambda: (dense(), SPLITS, {"penalties": {"name": "jacobian"}}), "expected a list"),
    ("no penalties", lambda: (dense(), SPLITS, {"penalties": None}), "got None, expected a list"),
    ("penalty of a batch",
     lambda: (dense(), SPLITS, {"penalties": [(1.0, lambda lin, key: lin.value.mean())]}),
     "one value an example"),
    ("penalty without a key", lambda: (dense(), SPLITS, {"penalties": [(1.0, without_key)]}),
     "1 positional argument but 2 were given. It is called as (lin, key)"),
    ("penalty of none", lambda: (dense(), SPLITS, {"penalties": [(1.0, lambda lin, key: None)]}),
     "penalty.0 (<lambda>) returned None, expected real numbers of shape (100,)"),
    ("penalty of logits",
     lambda: (dense(), SPLITS, {"penalties": [(1, half_squared), (1, lambda lin, key: lin.value)]}),
     "penalty.1 (<lambda>) returned an array of shape (100, 3)"),
    ("another key", lambda: (dense(), SPLITS, {"penalties": [
        {"loss": half_squared, "weight": 1.0, "evry": 2}]}), "penalty.0.every"),
    ("optimizer by name", lambda: (dense(), SPLITS, {"optimizer": "adam"}), "optax.adam(1e-3)"),
    ("optimizer that needs the loss", lambda: (dense(), SPLITS, {"optimizer": optax.lbfgs()}),
     "optimizer: cannot take a step from gradients"),
    ("workdir of a number", lambda: (dense(), SPLITS, {"workdir": 3}), "workdir: got 3 (int)"),
    ("unknown task", lambda: (dense(), SPLITS, {"task": "clasification"}), "classification"),
    ("steps", lambda: (dense(), SPLITS, {"steps": 0}), "train.fit: steps: got 0"),
    ("seed", lambda: (dense(), SPLITS, {"seed": -1}), "train.fit: seed: got -1"),
    ("regression on labels of another shape",
     lambda: (dense(), (INPUTS, INPUTS[:, :2]), {"task": "regression"}), "expected (2, 2)"),
]  # fmt: skip


def test_numbers_of_a_loop_over_an_array():
    """Scalars of numpy and JAX are the numbers that they hold."""
    scalars = {
        "steps": np.int64(2),
        "batch_size": jnp.int32(50),
        "seed": np.uint8(3),
        "penalties": [
            (np.float32(0.5), half_squared),
            {"name": "jacobian", "weight": jnp.ones(())},
        ],
    }
    plain = {
        "steps": 2,
        "batch_size": 50,
        "seed": 3,
        "penalties": [(0.5, half_squared), {"name": "jacobian", "weight": 1.0}],
    }
    found, wanted = (train.fit(dense(), SPLITS, quiet=True, **each) for each in (scalars, plain))
    assert found.metrics == wanted.metrics
    with pytest.raises(ValueError, match=r"steps: got np.float64\(2.5\)"):
        train.fit(dense(), SPLITS, steps=np.float64(2.5))


def test_a_penalty_that_raises_is_named_with_its_line():
    with pytest.raises(ValueError, match=r"penalty\.0 \(wrong_cotangent\)") as caught:
        train.fit(dense(), SPLITS, penalties=[(1.0, wrong_cotangent)], steps=2)
    line = wrong_cotangent.__code__.co_firstlineno + 1
    assert f"ValueError at test_train_fit.py:{line}: vjp: the cotangent must" in str(caught.value)
    assert "(lin, key)" in str(caught.value)
    cause = traceback.extract_tb(caught.value.__cause__.__traceback__)
    assert ("wrong_cotangent", line) in [(frame.name, frame.lineno) for frame in cause]


def test_a_call_that_diverges_is_told_what_a_call_can_do():
    def never(lin, key):
        return jnp.log(-1 - lin.value.sum(1) ** 2)

    with pytest.raises(DivergedError, match="not finite at step 1") as caught:
        train.fit(dense(), SPLITS, penalties=[(1.0, never)], steps=2, quiet=True)
    assert "chain optax.clip_by_global_norm before the optimizer" in str(caught.value)
    for absent in ("--debug", "clip_norm,", "--workdir", "optimizer.learning_rate"):
        assert absent not in str(caught.value)


@pytest.mark.parametrize(("name", "make", "said"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_mistakes_say_what_to_do(name, make, said, tmp_path):
    model, data, options = make()
    with pytest.raises((TypeError, ValueError)) as caught:
        train.fit(model, data, **{"steps": 2, "workdir": tmp_path / "run", **options})
    assert said in str(caught.value)
    assert isinstance(caught.value, UserError)
    assert len(str(caught.value)) < 1500
    assert not (tmp_path / "run").exists(), "bad input leaves no trace"
