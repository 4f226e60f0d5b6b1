"""The networks of the papers, and convolution in any layout. An application package.

`build` makes a network by its name, `transfer` carries its weights to another framework or
layout. `models.conv` has the convolutions themselves, `models.nnx`, `models.linen` and
`models.eqx` the module classes of each framework, imported when asked for.
"""

from ._build import build as build
from ._build import names as names
from ._networks import NETWORKS as NETWORKS
from ._networks import Network as Network
from ._transfer import transfer as transfer
from .conv import ConvLayout as ConvLayout
