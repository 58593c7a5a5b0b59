"""Lanes: numbers of many trajectories side by side, in one register of the processor.

A loop over lanes is not vectorised by LLVM once a step has branches in it, so the kernels say
what they mean: `load` gives a vector of one number per lane, and ``+ - * /``, comparisons and
the functions below act on all lanes at once. How many lanes there are, in which precision, and
which instructions may be used, is the type of one argument, `lanes`, which every kernel hands
on; numba compiles (and caches) a kernel for each.

Three instruction sets are told apart, because they round differently:

- ``avx512``: fused multiply-add, and reciprocal square roots from the 14-bit estimate;
- ``fma``: fused multiply-add (AVX2, NEON), correctly rounded square roots and quotients;
- ``portable``: single operations rounded as IEEE 754 says, hence the same bits everywhere.

Without the compiler (``NUMBA_DISABLE_JIT=1``) the same kernels run on one lane, where a vector
is a numpy scalar: slow, readable in a debugger, and equal to ``portable`` bit for bit.
"""

import operator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from inspect import Parameter, Signature
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.core.typing import signature
from numba.extending import (
    NativeValue,
    lower_builtin,
    models,
    register_model,
    type_callable,
    typeof_impl,
    unbox,
)


#: slots in a row of a pool, per lane: rows of the compiler's own numbers need no multiplication
POOL = 4


@dataclass(frozen=True)
class Lanes:
    """How a kernel is compiled: precision, number of lanes, instruction set."""

    dtype: str
    width: int
    instructions: str

    @property
    def sources(self) -> str:
        """What the kernels are made of: part of the type, so that the cache knows old ones."""
        return _digest()


@cache
def _digest():
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


@cache
def instruction_set() -> str:
    """Return what this processor offers: ``avx512``, ``fma`` or ``portable``."""
    if config.DISABLE_JIT:
        return "portable"
    has = llvm.get_host_cpu_features()
    if has.get("avx512f") and has.get("avx512dq"):
        return "avx512"
    return "fma" if has.get("fma") or has.get("neon") else "portable"


def lanes(precision: str, *, portable: bool = False) -> Lanes:
    """Return the lanes that fill a register of this processor.

    Parameters
    ----------
    precision : {"float64", "float32"}
    portable : bool
        Use only operations that give the same bits on every processor.
    """
    size = np.dtype(precision).itemsize
    native = instruction_set()
    if config.DISABLE_JIT:
        return Lanes(precision, 1, "portable")
    register = {"avx512": 64, "fma": 32, "portable": 16}[native]
    return Lanes(precision, register // size, "portable" if portable else native)


# The functions as plain Python, on one lane. The compiled ones follow below.


def load(lanes, rows, row):
    """Return row `row` of the scratch array `rows` (rows, lanes)."""
    return rows[row, 0]


def store(rows, row, value):
    """Put `value` into row `row` of the scratch array."""
    rows[row, 0] = value


def splat(lanes, value):
    """Return `value` in every lane."""
    return np.dtype(lanes.dtype).type(value)


def fma(a, b, c):
    """Return a * b + c, rounded once where the instruction set has that."""
    return a * b + c


def sqrt(a):
    """Return the square root."""
    return np.sqrt(a)


def rough_rsqrt(a):
    """Return 1/sqrt(a), to 14 bits at least: for step sizes, not for physics."""
    return 1.0 / np.sqrt(a)


def inverse_cube(a):
    """Return a**(-3/2) to about the last bit."""
    return 1.0 / (a * np.sqrt(a))


def select(mask, a, b):
    """Return `a` where `mask` holds, `b` elsewhere."""
    return a if mask else b


def bits(mask):
    """Return a mask as an integer, lane 0 in the lowest bit."""
    return int(mask)


def from_bits(lanes, number):
    """Return the mask whose lanes are the bits of an integer."""
    return bool(number & 1)


def take(rows, row, slot, mask, other):
    """Fill the lanes of `mask` from consecutive slots of a pool's row; others keep `other`."""
    return rows[row, slot] if mask else other


def put(rows, row, slot, value, mask):
    """Write the lanes of `mask` to consecutive slots of a pool's row."""
    if mask:
        rows[row, slot] = value


# What numba has to know: the types, how they look in LLVM, and one instruction for each function.


class LanesType(types.Type):
    """The type of `lanes`: everything that a kernel is specialised on."""

    def __init__(self, dtype, width, instructions, sources):
        self.dtype, self.width, self.instructions = dtype, width, instructions
        super().__init__(f"lanes({width}x{dtype},{instructions},{sources})")


class Vector(types.Type):
    """One number per lane."""

    def __init__(self, lanes):
        self.lanes = lanes
        super().__init__(f"vector<{lanes.name}>")


class Mask(types.Type):
    """One truth value per lane."""

    def __init__(self, lanes):
        self.lanes = lanes
        super().__init__(f"mask<{lanes.name}>")


@typeof_impl.register(Lanes)
def _(value, _context):
    dtype = types.float32 if value.dtype == "float32" else types.float64
    return LanesType(dtype, value.width, value.instructions, value.sources)


register_model(LanesType)(models.OpaqueModel)


@unbox(LanesType)
def _(_type, _object, context):
    return NativeValue(context.context.get_dummy_value())


def _vector(lanes):
    element = ir.FloatType() if lanes.dtype == types.float32 else ir.DoubleType()
    return ir.VectorType(element, lanes.width)


def _mask(lanes):
    return ir.VectorType(ir.IntType(1), lanes.width)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, _vector(fe_type.lanes))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, _mask(fe_type.lanes))


def _compiles(function, *accepts, to):
    """Say that `function` of arguments of the types `accepts` gives `to(*types)`.

    The decorated function builds its LLVM code from (context, builder, signature, values).
    """

    def register(build):
        @type_callable(function)
        def _(_context):
            def typer(*args):
                fits = len(args) == len(accepts) and all(map(isinstance, args, accepts))
                return signature(to(*args), *args) if fits else None

            # numba binds the arguments by what it sees here, and cannot see through *args
            typer.__signature__ = Signature(
                [Parameter(f"a{i}", Parameter.POSITIONAL_OR_KEYWORD) for i in range(len(accepts))]
            )
            return typer

        lower_builtin(function, *accepts)(build)
        return build

    return register


def _call(builder, name, result, *values):
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


def _suffix(lanes):
    return f"v{lanes.width}f{lanes.dtype.bitwidth}"


def _constant(lanes, value):
    return ir.Constant(_vector(lanes), [value] * lanes.width)


def _spread(context, builder, lanes, value, kind):
    """Return `value` as a vector: itself, or a number in every lane."""
    if isinstance(kind, Vector):
        return value
    value = context.cast(builder, value, kind, lanes.dtype)
    nothing = ir.Constant(_vector(lanes), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.IntType(32)(0))
    order = ir.Constant(ir.VectorType(ir.IntType(32), lanes.width), [0] * lanes.width)
    return builder.shuffle_vector(first, nothing, order)


def _address(context, builder, rows, values, width, pointee):
    """Return a pointer into a C-ordered array with rows of `width`, at (row,) or (row, slot)."""
    array = context.make_array(rows)(context, builder, values[0])
    index = builder.mul(values[1], ir.IntType(64)(width))
    for slot in values[2:]:
        index = builder.add(index, slot)
    return builder.bitcast(builder.gep(array.data, [index]), pointee.as_pointer())


def _indices(context, builder, kinds, values):
    return [context.cast(builder, v, k, types.intp) for v, k in zip(values, kinds, strict=True)]


@_compiles(load, LanesType, types.Array, types.Integer, to=lambda lanes, *_: Vector(lanes))
def _(context, builder, sig, values):
    lanes, rows = sig.args[:2]
    index = _indices(context, builder, sig.args[2:], values[2:])
    place = [values[1], *index]
    where = _address(context, builder, rows, place, lanes.width, _vector(lanes))
    return builder.load(where, align=lanes.dtype.bitwidth // 8)


@_compiles(store, types.Array, types.Integer, Vector, to=lambda *_: types.none)
def _(context, builder, sig, values):
    rows, row, lanes = *sig.args[:2], sig.args[2].lanes
    place = [values[0], *_indices(context, builder, [row], values[1:2])]
    where = _address(context, builder, rows, place, lanes.width, _vector(lanes))
    builder.store(values[2], where, align=lanes.dtype.bitwidth // 8)
    return context.get_dummy_value()


@_compiles(splat, LanesType, types.Number, to=lambda lanes, _: Vector(lanes))
def _(context, builder, sig, values):
    return _spread(context, builder, sig.args[0], values[1], sig.args[1])


def _lanes_of(*kinds):
    return next(kind.lanes for kind in kinds if isinstance(kind, Vector))


def _arithmetic(function, method):
    for accepts in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):

        @_compiles(function, *accepts, to=lambda *kinds: Vector(_lanes_of(*kinds)))
        def _(context, builder, sig, values):
            lanes = sig.return_type.lanes
            a, b = (
                _spread(context, builder, lanes, v, k)
                for v, k in zip(values, sig.args, strict=True)
            )
            return getattr(builder, method)(a, b)


def _comparison(function, symbol):
    for accepts in ((Vector, Vector), (Vector, types.Number)):

        @_compiles(function, *accepts, to=lambda a, _: Mask(a.lanes))
        def _(context, builder, sig, values):
            lanes = sig.return_type.lanes
            other = _spread(context, builder, lanes, values[1], sig.args[1])
            return builder.fcmp_ordered(symbol, values[0], other)


def _logic(function, method):
    @_compiles(function, Mask, Mask, to=lambda a, _: a)
    def _(_context, builder, _sig, values):
        return getattr(builder, method)(*values)


for _function, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_function, _method)
for _function, _symbol in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
):
    _comparison(_function, _symbol)
_logic(operator.and_, "and_")
_logic(operator.or_, "or_")


@_compiles(operator.neg, Vector, to=lambda a: a)
def _(_context, builder, _sig, values):
    return builder.fneg(values[0])


@_compiles(fma, Vector, Vector, Vector, to=lambda a, *_: a)
def _(_context, builder, sig, values):
    return _fma(builder, sig.return_type.lanes, *values)


def _fma(builder, lanes, a, b, c):
    if lanes.instructions == "portable":
        return builder.fadd(builder.fmul(a, b), c)
    return _call(builder, f"llvm.fma.{_suffix(lanes)}", _vector(lanes), a, b, c)


def _sqrt(builder, lanes, a):
    return _call(builder, f"llvm.sqrt.{_suffix(lanes)}", _vector(lanes), a)


@_compiles(sqrt, Vector, to=lambda a: a)
def _(_context, builder, sig, values):
    return _sqrt(builder, sig.return_type.lanes, values[0])


def _estimate(builder, lanes, a):
    """The processor's reciprocal square root, relative error below 2**-14 (AVX-512)."""
    name = f"llvm.x86.avx512.rsqrt14.p{'s' if lanes.dtype == types.float32 else 'd'}.512"
    every = ir.IntType(lanes.width)(-1)
    return _call(builder, name, _vector(lanes), a, _constant(lanes, 0.0), every)


@_compiles(rough_rsqrt, Vector, to=lambda a: a)
def _(_context, builder, sig, values):
    lanes = sig.return_type.lanes
    if lanes.instructions == "avx512":
        return _estimate(builder, lanes, values[0])
    return builder.fdiv(_constant(lanes, 1.0), _sqrt(builder, lanes, values[0]))


@_compiles(inverse_cube, Vector, to=lambda a: a)
def _(_context, builder, sig, values):
    lanes, (a,) = sig.return_type.lanes, values
    if lanes.instructions != "avx512":
        cube = builder.fmul(a, _sqrt(builder, lanes, a))
        return builder.fdiv(_constant(lanes, 1.0), cube)
    # With y the estimate and a y**2 = 1 + d, a**(-3/2) = y**3 (1 + d)**(-3/2), and |d| < 2**-13:
    # the series to d needs 3e-8 more in float32, to d**3 5e-16 in float64.
    y = _estimate(builder, lanes, a)
    square = builder.fmul(y, y)
    cube = builder.fmul(square, y)
    d = _fma(builder, lanes, a, square, _constant(lanes, -1.0))
    series = (-1.5, 1.0) if lanes.dtype == types.float32 else (-35 / 16, 15 / 8, -1.5, 1.0)
    factor = _constant(lanes, series[0])
    for coefficient in series[1:]:
        factor = _fma(builder, lanes, factor, d, _constant(lanes, coefficient))
    return builder.fmul(cube, factor)


@_compiles(select, Mask, Vector, Vector, to=lambda _, a, __: a)
def _(_context, builder, _sig, values):
    return builder.select(*values)


@_compiles(bits, Mask, to=lambda _: types.int64)
def _(_context, builder, sig, values):
    number = builder.bitcast(values[0], ir.IntType(sig.args[0].lanes.width))
    return builder.zext(number, ir.IntType(64))


@_compiles(from_bits, LanesType, types.Integer, to=lambda lanes, _: Mask(lanes))
def _(context, builder, sig, values):
    lanes = sig.args[0]
    number = context.cast(builder, values[1], sig.args[1], types.int64)
    return builder.bitcast(builder.trunc(number, ir.IntType(lanes.width)), _mask(lanes))


@_compiles(
    take, types.Array, types.Integer, types.Integer, Mask, Vector, to=lambda *kinds: kinds[-1]
)
def _(context, builder, sig, values):
    lanes, element = sig.return_type.lanes, _vector(sig.return_type.lanes).element
    place = [values[0], *_indices(context, builder, sig.args[1:3], values[1:3])]
    where = _address(context, builder, sig.args[0], place, POOL * lanes.width, element)
    name = f"llvm.masked.expandload.{_suffix(lanes)}"
    return _call(builder, name, _vector(lanes), where, values[3], values[4])


@_compiles(
    put, types.Array, types.Integer, types.Integer, Vector, Mask, to=lambda *_: types.none
)
def _(context, builder, sig, values):
    lanes, element = sig.args[3].lanes, _vector(sig.args[3].lanes).element
    place = [values[0], *_indices(context, builder, sig.args[1:3], values[1:3])]
    where = _address(context, builder, sig.args[0], place, POOL * lanes.width, element)
    name = f"llvm.masked.compressstore.{_suffix(lanes)}"
    _call(builder, name, ir.VoidType(), values[3], where, values[4])
    return context.get_dummy_value()
