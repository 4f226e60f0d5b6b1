"""What a pytree is to a type checker.

jaxtyping's `PyTree` is unknown to a strict one, and so would be every signature that names it.
"""

from typing import Any, TypeAlias

PyTree: TypeAlias = Any
