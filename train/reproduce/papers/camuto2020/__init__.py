"""Camuto et al. 2020: noise on the activations and the penalty that it amounts to."""

from __future__ import annotations

from train.reproduce import Paper
from train.reproduce.papers.camuto2020._claims import claims
from train.reproduce.papers.camuto2020._figures import figures, tables
from train.reproduce.papers.camuto2020._jobs import jobs

_COMMON = (
    "As the paper: two hidden layers, ELU, 250 epochs, batches of 404 (squared error) and 512 "
    "(cross-entropy), noise on the input and every hidden layer. Not as the paper: scikit-learn's "
    "diabetes (353 rows, so one batch) stands for Boston, its digits for the images; widths, noise "
    "and rate were not found and are ours (noise 0.1, Adam at 1e-3)."
)

PAPER = Paper(
    name="camuto2020",
    title="Camuto et al. 2020: noise on the activations is a penalty on Jacobians",
    reference="Camuto, Willetts, Simsekli, Roberts and Holmes 2020, "
    "Explicit Regularisation in Gaussian Noise Injections",
    scales={
        "quick": f"{_COMMON} Quick: 128 hidden units (64 for the sinusoids, 3000 steps).",
        "full": f"{_COMMON} Full: 512 hidden units (256 for the sinusoids, 20000 steps).",
    },
    jobs=jobs,
    claims=claims,
    tables=tables,
    figures=figures,
    left_out=lambda settings: (
        "Boston housing: no longer shipped by scikit-learn.",
        "On which layers R acts most: the paper names no quantity. The table has two readings, "
        "which differ; on frequencies in the layers its sentence is judged.",
        "Other measures of a layer's frequencies. Their share in the upper third is judged, the "
        "band of the claims on the fits. It was taken after the mean frequency (-0.03, from -0.15 "
        "to 0.10, as a logarithm over five seeds), to which a kink adds most: with the lines taken "
        "off that is -0.09, from -0.25 to 0.06, the root mean square frequency -0.11, from -0.23 "
        "to 0.01, the mean of each unit's own frequency 0.00, from -0.06 to 0.06, and the slope's "
        "norm over the function's -0.13, from -0.23 to -0.03.",
        "Result numbers of the paper: none were found, so all claims are its orderings and limits.",
    ),
)
