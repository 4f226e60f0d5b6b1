"""Convolutions and models, with arguments that work."""

from __future__ import annotations

from collections.abc import Mapping

import models
from benchmarks.robustness._arguments import KEY, Call, points
from models import conv

MODELS: Mapping[str, Call] = {
    "conv.ConvLayout": Call(
        conv.ConvLayout, {"inputs": "NHWC", "kernel": "HWIO", "outputs": "NHWC"}
    ),
    "conv.conv": Call(
        conv.conv,
        {"xs": points(2, 5, 5, 2), "kernel": points(3, 3, 2, 4), "layout": None, "strides": 1,
         "padding": "SAME", "input_dilation": 1, "kernel_dilation": 1, "groups": 1},
    ),
    "conv.conv_transpose": Call(
        conv.conv_transpose,
        {"xs": points(2, 5, 5, 2), "kernel": points(3, 3, 2, 4), "layout": None, "strides": 2,
         "padding": "SAME", "kernel_dilation": 1, "groups": 1, "transpose_kernel": False},
    ),
    "conv.max_pool": Call(
        conv.max_pool,
        {"xs": points(2, 6, 6, 2), "window": 2, "layout": None, "strides": 2,
         "padding": "VALID"},
    ),
    "conv.average_pool": Call(
        conv.average_pool,
        {"xs": points(2, 6, 6, 2), "window": 2, "layout": None, "strides": 2,
         "padding": "SAME", "count_padding": True},
    ),
    "conv.global_average_pool": Call(
        conv.global_average_pool, {"xs": points(2, 6, 6, 2), "layout": None}
    ),
    "conv.flatten": Call(conv.flatten, {"xs": points(2, 6, 6, 2), "axes": "NHWC"}),
    "conv.transpose_axes": Call(
        conv.transpose_axes, {"xs": points(2, 6, 6, 2), "source": "NHWC", "target": "NCHW"}
    ),
    "conv.add_bias": Call(
        conv.add_bias, {"ys": points(2, 6, 6, 2), "bias": points(2), "axes": "NHWC"}
    ),
    "conv.smooth": Call(
        conv.smooth, {"ys": points(9), "window": points(3), "mode": "same"}
    ),
    "conv.gaussian_smooth": Call(
        conv.gaussian_smooth, {"ys": points(9), "scale": 1.0, "truncate": 3.0, "mode": "same"}
    ),
    "conv.gaussian_window": Call(
        conv.gaussian_window, {"scale": 1.0, "num_dims": 2, "truncate": 3.0}
    ),
    "conv.moving_average": Call(
        conv.moving_average, {"ys": points(9), "size": 3, "mode": "same"}
    ),
    "conv.he_normal": Call(
        lambda layout, key, shape: conv.he_normal(layout)(key, shape),
        {"layout": None, "key": KEY, "shape": (3, 3, 2, 4)},
    ),
    "models.build": Call(
        lambda name, framework, key, hidden: models.build(
            name, framework=framework, key=key, input_shape=(4,), num_classes=3, hidden=hidden
        ),
        {"name": "mlp", "framework": "equinox", "key": KEY, "hidden": (5,)},
    ),
}  # fmt: skip
