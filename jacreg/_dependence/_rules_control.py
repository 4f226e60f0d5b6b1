"""Rules for sub-programs: calls, branches and loops."""

from __future__ import annotations

import numpy as np

from .._convolution import NAME, program_of
from .._derivative import derivative, is_inexact
from .._interpret import CALLS, inner_program, opened, scan_counts
from ._length import StandIn, is_stand_in
from ._operand import Dependence, Equation, Operand, each, everything, merge, rule
from ._pattern import apply_axis, insert_axis, reduce_axis
from ._terms import whole
from ._windows import placement, selection

# Longer loops are read once with their carry widened until it no longer changes.
_MOST_UNROLLED = 48


@rule(*CALLS)
def _call(equation: Equation) -> list[Dependence]:
    outs = equation.reader.read(*opened(inner_program(equation.source)), equation.operands)
    return [out.dependence for out in outs]


@rule("custom_jvp_call")
def _custom_derivative(equation: Equation) -> list[Dependence]:
    """By its derivative rule: it may see less or more than what it differentiates.

    What a factor in the rule sees counts too: of `roll(x) * t` a second derivative is there only
    where both are. That needs first derivatives alone of the functions with rules that it calls.
    What these call in turn is a linear function of their tangents, and is read itself: a rule may
    call its own function on its tangent, without end.
    """
    if equation.reader.rules == 2:
        return _call(equation)
    if any(
        is_stand_in(shape) for shape in (*equation.shapes, *(o.shape for o in equation.operands))
    ):
        return everything(equation, why=equation.name)
    places = [place for place, operand in enumerate(equation.operands) if operand.dependence]
    program = derivative(equation.source, places)
    reader, primals = equation.reader, equation.operands
    if reader.rules:
        primals = [Operand(operand.shape, value=operand.value) for operand in primals]
    tangents = [equation.operands[place] for place in places]
    reader.rules += 1
    try:
        outs = iter(reader.read(program.jaxpr, program.consts, [*primals, *tangents]))
    finally:
        reader.rules -= 1
    return [next(outs).dependence if is_inexact(out.aval) else {}
            for out in equation.source.outvars]  # fmt: skip


@rule(NAME)
def _convolution(equation: Equation) -> list[Dependence]:
    """A product of this library inside the function: read as what defines it."""
    definition = program_of(equation.params["role"], equation.params["convolution"])
    outs = equation.reader.read(*opened(definition), equation.operands)
    return [out.dependence for out in outs]


@rule("cond")
def _branches(equation: Equation) -> list[Dependence]:
    index, *operands = equation.operands
    branches = equation.params["branches"]
    if index.value is not None:
        number = int(np.clip(index.value, 0, len(branches) - 1))
        branches = branches[number : number + 1]
    runs = [equation.reader.read(*opened(branch), operands) for branch in branches]
    return [merge(*(out.dependence for out in outs)) for outs in zip(*runs, strict=True)]


@rule("while")
def _while(equation: Equation) -> list[Dependence]:
    params = equation.params
    num_conditions, num_constants = params["cond_nconsts"], params["body_nconsts"]
    constants = equation.operands[num_conditions : num_conditions + num_constants]
    carry = [
        Operand(c.shape, c.dependence) for c in equation.operands[num_conditions + num_constants :]
    ]
    body = opened(params["body_jaxpr"])

    def step(carry: list[Operand]) -> list[Operand]:
        return equation.reader.read(*body, [*constants, *carry])

    settled = _settle(step, carry, equation, "while loop whose dependence keeps growing")
    return [c.dependence for c in settled]


@rule("scan")
def _scan(equation: Equation) -> list[Dependence]:
    params = equation.params
    length = params["length"]
    body = opened(params["jaxpr"])
    num_constants, num_carry = scan_counts(equation.source)
    constants = equation.operands[:num_constants]
    carry = equation.operands[num_constants : num_constants + num_carry]
    sequences = equation.operands[num_constants + num_carry :]
    # Over a batch whose length is a symbol there are as many steps as there may be.
    if length > _MOST_UNROLLED or isinstance(length, StandIn):
        return _scan_widened(equation, body, constants, carry, sequences, num_carry)
    stacked: list[list[Dependence]] = []
    order = range(length - 1, -1, -1) if params["reverse"] else range(length)
    for position in order:
        row = [_row(sequence, position) for sequence in sequences]
        outs = equation.reader.read(*body, [*constants, *carry, *row])
        carry = outs[:num_carry]
        stacked.append([
            each(out.dependence, lambda p, at=position: _stack(p, at, length))
            for out in outs[num_carry:]
        ])  # fmt: skip
    ys = [merge(*parts) for parts in zip(*stacked, strict=True)] if stacked else []
    if not stacked:
        ys = [{} for _ in equation.shapes[num_carry:]]
    return [*(c.dependence for c in carry), *ys]


def _row(sequence: Operand, position: int) -> Operand:
    """Row `position` of a scanned operand."""
    length = sequence.shape[0]
    pick = selection(np.array([position]), length)
    dependence = each(sequence.dependence, lambda p: reduce_axis(apply_axis(p, 0, pick), 0))
    value = None if sequence.value is None else sequence.value[position]
    return Operand(sequence.shape[1:], dependence, value)


def _stack(pattern, position: int, length: int):
    return apply_axis(insert_axis(pattern, 0, 1), 0, placement(np.array([position]), length))


def _scan_widened(equation, body, constants, carry, sequences, num_carry) -> list[Dependence]:
    """Read a long loop once for all its steps: any step may see any row."""
    rows = [
        Operand(s.shape[1:], each(s.dependence, lambda p: reduce_axis(p, 0))) for s in sequences
    ]
    carry = [Operand(c.shape, c.dependence) for c in carry]

    def step(carry: list[Operand]) -> list[Operand]:
        return equation.reader.read(*body, [*constants, *carry, *rows])[:num_carry]

    settled = _settle(step, carry, equation, "scan whose dependence keeps growing")
    outs = equation.reader.read(*body, [*constants, *settled, *rows])
    length = equation.params["length"]
    ys = [each(out.dependence, lambda p: insert_axis(p, 0, length)) for out in outs[num_carry:]]
    return [*(c.dependence for c in settled), *ys]


@rule("custom_linear_solve")
def _linear_solve(equation: Equation) -> list[Dependence]:
    """The inverse of a matrix is a polynomial in it: it leads wherever its powers do."""
    counts, programs = equation.params["const_lengths"], equation.params["jaxprs"]
    constants = equation.operands[: counts.matvec]
    if any(constant.dependence for constant in equation.operands[: sum(counts)]):
        return everything(equation, why="solve with a matrix that depends on the input")
    right = [Operand(each.shape, each.dependence) for each in equation.operands[sum(counts) :]]
    matvec = opened(programs.matvec)
    settled = _settle(
        lambda carry: equation.reader.read(*matvec, [*constants, *carry]),
        right,
        equation,
        "solve whose dependence keeps growing",
    )
    return [solution.dependence for solution in settled]


def _settle(step, carry: list[Operand], equation: Equation, why: str) -> list[Operand]:
    """Widen a carry until one more step adds nothing.

    Where that does not come soon, what depends on anything depends on everything; the others, as
    the numbers that a loop carries beside tangents, on nothing as before.
    """
    carry = [Operand(each.shape, _in_one(each.dependence)) for each in carry]
    for _ in range(256):
        after = step(carry)
        grown = [
            Operand(before.shape, _in_one(merge(before.dependence, new.dependence)))
            for before, new in zip(carry, after, strict=True)
        ]
        if all(_size(a) == _size(b) for a, b in zip(carry, grown, strict=True)):
            return grown
        carry = grown
    # The first outputs are the carry.
    widest = everything(equation, why=why)[: len(carry)]
    return [
        Operand(each.shape, dependence if each.dependence else {})
        for each, dependence in zip(carry, widest, strict=True)
    ]


def _in_one(dependence: Dependence) -> Dependence:
    """A pattern a leaf, whose size tells whether it has grown."""
    return {leaf: (whole(terms),) for leaf, terms in dependence.items()}


def _size(operand: Operand) -> list[tuple]:
    """What grows when a dependence grows: a union never loses an entry."""
    return [
        (leaf, tuple(sorted((f.axes, f.inputs, int(f.matrix.nnz)) for f in pattern.factors)))
        for leaf, (pattern,) in sorted(operand.dependence.items())
    ]
