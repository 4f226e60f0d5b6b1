"""Which input entries an output depends on, read from the program alone."""

from ._fingerprint import Fingerprint as Fingerprint
from ._fingerprint import constants_digest as constants_digest
from ._fingerprint import fingerprint as fingerprint
from ._length import LengthError as LengthError
from ._length import is_stand_in as is_stand_in
from ._length import with_known_length as with_known_length
from ._length import with_own_length as with_own_length
from ._operand import Operand as Operand
from ._operand import Reader as Reader
from ._pattern import Factor as Factor
from ._pattern import Pattern as Pattern
from ._pattern import identity as identity
from ._program import LinearProgram as LinearProgram
from ._program import is_structural as is_structural
from ._program import structural_value as structural_value
from ._read import Cutter as Cutter
from ._read import read_dependence as read_dependence
from ._read import read_equation as read_equation
from ._read import read_program as read_program
from ._terms import whole as whole
