"""Networks and convolutions as Flax nnx modules. Importing this imports flax."""

from ._autoencoder import Autoencoder as Autoencoder
from ._conv import Conv as Conv
from ._differential import DifferentialMLP as DifferentialMLP
from ._lenet import LeNet as LeNet
from ._lipschitz_cnn import LipschitzCNN as LipschitzCNN
from ._mlp import MLP as MLP
from ._resnet import ResNet as ResNet
