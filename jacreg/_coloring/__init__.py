"""Exact quantities of local functions in few products."""

from ._apply import diagonal as diagonal
from ._apply import frobenius_squared as frobenius_squared
from ._apply import jacobian as jacobian
from ._apply import trace as trace
from ._color import color as color
from ._coloring import Coloring as Coloring
from ._coloring import ColoringError as ColoringError
