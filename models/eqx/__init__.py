"""Networks and convolutions as Equinox modules, per example. Importing this imports equinox."""

from ._conv import Conv as Conv
from ._dense import dense as dense
from ._flow_fields import ConcatSquash as ConcatSquash
from ._flow_fields import FlowConvField as FlowConvField
from ._flow_fields import FlowField as FlowField
from ._group_norm import GroupNorm as GroupNorm
from ._lenet import LeNet as LeNet
from ._lipschitz_cnn import LipschitzCNN as LipschitzCNN
from ._mlp import MLP as MLP
from ._score_conv import ScoreConv as ScoreConv
from ._score_mlp import ScoreMLP as ScoreMLP
from ._score_unet import ScoreUNet as ScoreUNet
