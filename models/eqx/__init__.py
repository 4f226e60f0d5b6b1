"""Networks and convolutions as Equinox modules, per example. Importing this imports equinox."""

from ._batch_norm import BatchNorm as BatchNorm
from ._conv import Conv as Conv
from ._dense import dense as dense
from ._flow_fields import ConcatSquash as ConcatSquash
from ._flow_fields import FlowConvField as FlowConvField
from ._flow_fields import FlowField as FlowField
from ._group_norm import GroupNorm as GroupNorm
from ._lipschitz_cnn import LipschitzCNN as LipschitzCNN
from ._networks import MLP as MLP
from ._networks import Autoencoder as Autoencoder
from ._networks import LeNet as LeNet
from ._networks import ResNet as ResNet
from ._networks import ScoreConv as ScoreConv
from ._networks import ScoreMLP as ScoreMLP
from ._networks import ScoreUNet as ScoreUNet
