"""What each primitive of JAX is, as one of a few forms: elementwise, moved, contraction, ..."""

from ._form import Form as Form
from ._table import FORMS as FORMS
from ._table import SIDE_BY_SIDE as SIDE_BY_SIDE
from ._table import fits as fits
from ._table import form_of as form_of
