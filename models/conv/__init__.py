"""Convolution, pooling and smoothing in any layout of axes, in one to three dimensions.

The functions here need JAX alone. The module classes are `models.nnx.Conv`,
`models.linen.Conv` and `models.eqx.Conv`.
"""

from ._conv import add_bias as add_bias
from ._conv import conv as conv
from ._initializers import by_layout as by_layout
from ._initializers import glorot_normal as glorot_normal
from ._initializers import glorot_uniform as glorot_uniform
from ._initializers import he_normal as he_normal
from ._initializers import he_uniform as he_uniform
from ._initializers import lecun_normal as lecun_normal
from ._initializers import lecun_uniform as lecun_uniform
from ._layout import CHANNELS_LAST as CHANNELS_LAST
from ._layout import ConvLayout as ConvLayout
from ._layout import flatten as flatten
from ._layout import transpose_axes as transpose_axes
from ._pool import average_pool as average_pool
from ._pool import global_average_pool as global_average_pool
from ._pool import max_pool as max_pool
from ._smooth import gaussian_smooth as gaussian_smooth
from ._smooth import gaussian_window as gaussian_window
from ._smooth import moving_average as moving_average
from ._smooth import smooth as smooth
from ._transposed import conv_transpose as conv_transpose
from ._window import PaddingLike as PaddingLike
from ._window import per_dimension as per_dimension
