"""JAX's guide to general convolutions: every example through `models.conv`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from train.figures import pyplot, save
from train.reproduce import Claim, Job, Paper, Results, Settings, Table, exact, mean, measurement
from train.reproduce.papers.convolution_guide._examples import EXAMPLES, compare, smoothing

_ARM = "examples"
_NAMES = (*EXAMPLES, "conv-transpose")
_LARGEST = 1e-5


def _jobs(settings: Settings) -> Sequence[Job]:
    return [
        *measurement(_ARM, [0], compare),
        *(
            job
            for seed in settings.each_seed
            for job in measurement(
                "smoothing", [seed], smoothing, pictures=seed == settings.first_seed
            )
        ),
    ]


def _title(name: str) -> str:
    return EXAMPLES[name].title if name in EXAMPLES else "conv_transpose, strides of 2, SAME"


def _value(name: str, key: str) -> Callable[[Results], float]:
    return lambda results: float(results.metric(_ARM, f"{name}/{key}")[0])


def _claims(settings: Settings) -> Sequence[Claim]:
    found = []
    for name in _NAMES:
        shape = str(EXAMPLES[name].shape) if name in EXAMPLES else "(1, 400, 396, 3)"
        found += [
            Claim(
                id=f"{name}-shape",
                claim=f"{_title(name)}: the output has the shape that the guide prints.",
                place="guide",
                paper=shape,
                statistic=exact(_value(name, "same_shape"), "equal or not"),
                above=0.5,
                unit="(1: equal)",
            ),
            Claim(
                id=f"{name}-value",
                claim=f"{_title(name)}: the largest difference to JAX's own function.",
                place="guide",
                paper=0.0,
                statistic=exact(_value(name, "difference"), "all entries compared"),
                below=_LARGEST,
            ),
        ]
    for name, title, part in (
        ("line", "A moving average of ten points", 0.5),
        ("image", "A Gaussian window of 5x5 pixels, standard deviation 1,", 0.6),
    ):
        found.append(
            Claim(
                id=f"{name}-smoothing",
                claim=f"{title} leaves less than {part:g} of the noise's standard deviation.",
                place="guide, smoothing",
                paper="less noise",
                statistic=mean(f"{name}/noise_left", "smoothing"),
                below=part,
                unit="of the noise",
            )
        )
    return found


def _tables(results: Results) -> Sequence[Table]:
    arrays = results.arrays(_ARM, 0)
    rows = [
        [
            name,
            _title(name),
            str(tuple(int(size) for size in arrays[f"{name}/shape"])),
            f"{_value(name, 'difference')(results):.1g}",
        ]
        for name in _NAMES
    ]
    columns = ["example", "what", "shape", "largest difference"]
    return [Table("Every example", columns, rows)]


def _figures(results: Results, folder: Path) -> Sequence[tuple[str, str]]:
    plt = pyplot()
    first = results.settings.first_seed
    arrays, smooth = results.arrays(_ARM, 0), results.arrays("smoothing", first)
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.2), layout="constrained")
    axes[0].plot(smooth["picture/x"], smooth["picture/noisy"], "lightgray")
    axes[0].plot(smooth["picture/x"], smooth["picture/smoothed"], "black")
    axes[0].set_title("moving average")
    for axis, name in zip(axes[1:], ("image", "rough", "clean"), strict=True):
        _picture(axis, smooth[f"picture/{name}"], {"rough": "noisy", "clean": "smoothed"}.get(name))
    save(figure, folder / "smoothing.png")

    flat = [name for name in _NAMES if name == "conv-transpose" or EXAMPLES[name].dimensions == 2]
    figure, axes = plt.subplots(2, 4, figsize=(13, 6.6), layout="constrained")
    for axis, name in zip(axes.flat, flat, strict=True):
        output = arrays[f"{name}/output"][0, :, :, 0]
        _picture(axis, output, f"{_title(name)}\n{arrays[f'{name}/output'].shape}")
    save(figure, folder / "images.png")

    figure, axes = plt.subplots(1, 3, figsize=(13, 3.2), layout="constrained")
    for axis, name in zip(axes[:2], ("one-d", "one-d-strides"), strict=True):
        for channel in range(2):
            axis.plot(arrays[f"{name}/output"][0, :, channel], label=f"channel {channel}")
        axis.set_title(_title(name))
        axis.legend(fontsize=8)
    _picture(axes[2], arrays["three-d/output"][0, :, :, 15, 0], "three dimensions, a slice")
    save(figure, folder / "one-and-three.png")
    return [
        ("smoothing.png", "Smoothing a line and a photograph."),
        ("images.png", "The first output channel of every two-dimensional example."),
        ("one-and-three.png", "One and three dimensions."),
    ]


def _picture(axis: Any, image: Any, title: str | None) -> None:
    axis.imshow(image, cmap="binary_r")
    axis.set_title(title or "original", fontsize=9)
    axis.set_axis_off()


PAPER = Paper(
    name="convolution-guide",
    title="JAX's guide to general convolutions, through models.conv in any layout",
    reference="JAX documentation, Generalized convolutions",
    scales={
        "quick": "Everything, in seconds. The photograph is one that comes with scikit-learn.",
        "full": "As quick: there is nothing to leave out.",
    },
    jobs=_jobs,
    claims=_claims,
    tables=_tables,
    figures=_figures,
    left_out=lambda settings: ("There is no penalty here: `--break penalty` changes nothing.",),
)
