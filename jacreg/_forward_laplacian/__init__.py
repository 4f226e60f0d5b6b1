"""Laplacians and diagonals of Hessians carried forward through a program."""

from ._carried import Refusal as Refusal
from ._run import forward_hessian_diagonal as forward_hessian_diagonal
from ._run import forward_laplacian as forward_laplacian
