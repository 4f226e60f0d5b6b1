"""Laplacians and diagonals of Hessians carried forward through a program."""

from ._carried import Order as Order
from ._carried import Refusal as Refusal
from ._field import by_parts as by_parts
from ._field import second_order as second_order
from ._followed import first_followed as first_followed
from ._outlook import most_entries as most_entries
from ._room import room as room
