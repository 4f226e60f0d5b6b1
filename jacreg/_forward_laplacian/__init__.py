"""Laplacians and diagonals of Hessians carried forward through a program."""

from ._carried import Order as Order
from ._carried import Refusal as Refusal
from ._directions import Directions as Directions
from ._field import by_parts as by_parts
from ._field import second_order as second_order
from ._first_order import Carrier as Carrier
from ._first_order import entries as entries
from ._first_order import in_place as in_place
from ._followed import first_followed as first_followed
from ._outlook import most_entries as most_entries
from ._room import room as room
