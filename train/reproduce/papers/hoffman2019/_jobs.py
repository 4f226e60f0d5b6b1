"""What Hoffman et al. 2019 needs: the rows by the columns of table 1, probes, the MLP, attacks."""

from __future__ import annotations

from collections.abc import Sequence

from train.reproduce import CONFIGS, Job, Settings, measurement, training
from train.reproduce.papers.hoffman2019._measure import robustness
from train.reproduce.papers.hoffman2019._overhead import overhead

ROWS = ("none", "l2", "dropout", "jacobian", "all")
TITLES = {
    "none": "no regularization",
    "l2": "L2",
    "dropout": "dropout",
    "jacobian": "Jacobian",
    "all": "all three",
}
COLUMNS = ("1", "3", "10", "30", "all")
PROBES = {
    "none": ("penalty.0.weight=0",),
    "1": (),
    "3": ("penalty.0.method.num_probes=3",),
    "exact": ('penalty.0.method={name="exact"}',),
}
ATTACKED, OVERHEAD = "attacks", "overhead"
# Scales in pixel units; the paper's figures give curves, not numbers.
NOISE = (0.1, 0.2, 0.3, 0.4, 0.5)
FGSM = (0.02, 0.05, 0.1, 0.15, 0.2)
PGD = (0.02, 0.05, 0.1)
MANY_STEPS = 0.05  # the scale at which more steps of PGD are tried

_PLAIN = ("evaluation.noise=[]", "evaluation.fgsm=[]", "evaluation.pgd=[]")
_EPOCHS = 250
_TRAINING_IMAGES = 60_000


def jobs(settings: Settings) -> Sequence[Job]:
    """Return the jobs of a scale."""
    seeds, found = settings.each_seed, []
    for column in COLUMNS:
        for row in ROWS:
            found += training(
                f"table1/{row}/{column}",
                seeds,
                CONFIGS / "hoffman" / f"{row}.toml",
                _table_overrides(settings, column),
                cost=(3.0 if column in ("30", "all") else 1.5)
                * (2 if row in ("jacobian", "all") else 1),
            )
    config, common = CONFIGS / "hoffman-mlp.toml", _probe_overrides(settings)
    for name, overrides in PROBES.items():
        found += training(f"probes/{name}", seeds, config, (*common, *overrides))
    found += measurement(
        ATTACKED,
        seeds,
        robustness,
        needs=[f"table1/{row}/all" for row in ROWS],
        cost=12.0,
        rows=list(ROWS),
        noise=list(NOISE),
        fgsm=list(FGSM),
        pgd=list(PGD),
        many_steps=MANY_STEPS,
        examples=200 if settings.quick else 1000,
        other=settings.data.get("usps", "digits"),  # of table 2: USPS where it is given
    )
    pair = plain, penalised = "table1/none/all", "table1/jacobian/all"
    found += measurement(OVERHEAD, seeds, overhead, needs=pair, plain=plain, penalised=penalised)
    return found


def _table_overrides(settings: Settings, column: str) -> tuple[str, ...]:
    found = [*_data(settings), *_PLAIN, "evaluation.decision_cells=false"]
    found += ["training.eval_every=0", "training.checkpoint_every=0"]
    if column != "all":
        found += [f"data.samples_per_class={column}"]
    if settings.quick:
        found += [f"training.steps={400 if column == 'all' else 200}", "training.log_every=100"]
        found += ["evaluation.jacobian_examples=250"]
        return (*found, "data.batch_size=50")
    images = _TRAINING_IMAGES if column == "all" else 10 * int(column)
    batches = max(1, images // 100)
    return (*found, f"training.steps={_EPOCHS * batches}", "training.checkpoint_every=5000")


def _probe_overrides(settings: Settings) -> tuple[str, ...]:
    found = (*_data(settings), *_PLAIN, "evaluation.decision_cells=false", "training.eval_every=0")
    if settings.quick and "mnist" not in settings.data:
        return (*found, "training.steps=600", "training.checkpoint_every=0")
    return (*found, "training.checkpoint_every=0")


def _data(settings: Settings) -> tuple[str, ...]:
    if settings.quick and "mnist" not in settings.data:
        return ("data.name=mnist-5k",)
    return (f"data.path={settings.data['mnist']}",) if "mnist" in settings.data else ()
