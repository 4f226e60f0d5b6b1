"""Empirical neural tangent kernel, without the parameter Jacobians that it is made of."""

from ._kernel import empirical_ntk as empirical_ntk
