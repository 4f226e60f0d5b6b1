"""Exact quantities of local functions in few products."""

from ._apply import diagonal as diagonal
from ._apply import frobenius_squared as frobenius_squared
from ._apply import jacobian as jacobian
from ._apply import sparse_jacobian as sparse_jacobian
from ._apply import trace as trace
from ._automatic import diagonal_by_found_colors as diagonal_by_found_colors
from ._automatic import diagonal_by_values_apart as diagonal_by_values_apart
from ._automatic import entries_by_found_colors as entries_by_found_colors
from ._automatic import jacobian_by_found_colors as jacobian_by_found_colors
from ._automatic import norm_by_found_colors as norm_by_found_colors
from ._automatic import trace_by_found_colors as trace_by_found_colors
from ._automatic import trace_by_values_apart as trace_by_values_apart
from ._color import color as color
from ._coloring import Coloring as Coloring
from ._coloring import ColoringError as ColoringError
from ._coloring import quantity_name as quantity_name
from ._narrow import spreads_few as spreads_few
from ._probing import diagonal_by_probing as diagonal_by_probing
from ._probing import norm_by_probing as norm_by_probing
from ._probing import trace_by_probing as trace_by_probing
from ._reading import structural_key as structural_key
