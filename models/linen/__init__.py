"""Networks and convolutions as Flax linen modules. Importing this imports flax."""

from ._conv import Conv as Conv
from ._lenet import LeNet as LeNet
from ._mlp import MLP as MLP
