"""Networks and convolutions as Flax nnx modules. Importing this imports flax."""

from ._conv import Conv as Conv
from ._differential import DifferentialMLP as DifferentialMLP
from ._lipschitz_cnn import LipschitzCNN as LipschitzCNN
from ._networks import MLP as MLP
from ._networks import Autoencoder as Autoencoder
from ._networks import LeNet as LeNet
from ._networks import ResNet as ResNet
from ._networks import ScoreConv as ScoreConv
from ._networks import ScoreMLP as ScoreMLP
from ._networks import ScoreUNet as ScoreUNet
