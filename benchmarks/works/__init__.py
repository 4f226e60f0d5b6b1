"""What is measured, one module a work: each has `compare() -> list[Comparison]`.

A work runs in an interpreter of its own, so that no peer's threads or memory reach another's.
Its first docstring line is its title. The order here is that of the table.
"""

WORKS: tuple[str, ...] = (
    "training_step",
    "cheaper_steps",
    "divergence",
    "laplacian",
    "per_example_jacobian",
    "penalty_gradient",
    "gram",
    "trace",
    "probing",
    "default",
    "planning",
    "operator_norm",
    "operator_norm_bound",
    "flow_and_score",
    "many_seeds",
    "quickstart",
)

# Measured only where they are named: their peer cannot be installed as a package.
NAMED_ONLY: tuple[str, ...] = ("operator_norm_bound",)
