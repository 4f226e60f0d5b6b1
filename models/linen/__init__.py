"""Networks and convolutions as Flax linen modules. Importing this imports flax."""

from ._conv import Conv as Conv
from ._network import MLP as MLP
from ._network import LeNet as LeNet
