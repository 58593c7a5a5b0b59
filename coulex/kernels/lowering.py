"""What numba has to know of lanes: their types in LLVM, and an instruction for each function.

The functions are those of `simd.py`, where they stand as plain Python. Importing this file
registers the compiled ones with numba.
"""

import operator
from inspect import Parameter, Signature

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import (
    NativeValue,
    lower_builtin,
    models,
    register_model,
    type_callable,
    typeof_impl,
    unbox,
)

from .simd import (
    Lanes,
    Rows,
    bits,
    fma,
    from_bits,
    inverse,
    inverse_cube,
    lane_count,
    load,
    put,
    rough_rsqrt,
    select,
    splat,
    sqrt,
    store,
    take,
)


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


class RowsType(types.Type):
    """A pointer to numbers in rows of a known length."""

    def __init__(self, dtype, slots):
        self.dtype, self.slots = dtype, slots
        super().__init__(f"rows({slots}x{dtype})")


@typeof_impl.register(Lanes)
def _(value, _context):
    dtype = types.float32 if value.dtype == "float32" else types.float64
    return LanesType(dtype, value.width, value.instructions, value.sources)


@typeof_impl.register(Rows)
def _(value, _context):
    dtype = types.float32 if value.array.dtype == "float32" else types.float64
    return RowsType(dtype, value.array.shape[1])


register_model(LanesType)(models.OpaqueModel)


@unbox(LanesType)
def _(_type, _object, context):
    return NativeValue(context.context.get_dummy_value())


def _element(kind):
    return ir.FloatType() if kind.dtype == types.float32 else ir.DoubleType()


def _vector(lanes):
    return ir.VectorType(_element(lanes), lanes.width)


def _mask(lanes):
    return ir.VectorType(ir.IntType(1), lanes.width)


@register_model(RowsType)
class _RowsModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, _element(fe_type).as_pointer())


@unbox(RowsType)
def _(kind, value, context):
    number = context.pyapi.object_getattr_string(value, "address")
    address = context.pyapi.long_as_voidptr(number)
    context.pyapi.decref(number)
    return NativeValue(context.builder.bitcast(address, _element(kind).as_pointer()))


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
                [
                    Parameter(f"a{i}", Parameter.POSITIONAL_OR_KEYWORD)
                    for i in range(len(accepts))
                ]
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


def _address(context, builder, rows, pointer, kinds, place, pointee):
    """Return a pointer to what stands at `place`, (row,) or (row, slot), of a table."""
    row, *slots = (
        context.cast(builder, value, kind, types.intp)
        for value, kind in zip(place, kinds, strict=True)
    )
    index = builder.mul(row, ir.IntType(64)(rows.slots))
    for slot in slots:
        index = builder.add(index, slot)
    return builder.bitcast(builder.gep(pointer, [index]), pointee.as_pointer())


@_compiles(operator.getitem, RowsType, types.BaseTuple, to=lambda rows, _: rows.dtype)
def _(context, builder, sig, values):
    rows, place = sig.args
    index = cgutils.unpack_tuple(builder, values[1])
    return builder.load(
        _address(context, builder, rows, values[0], place.types, index, _element(rows))
    )


@_compiles(operator.setitem, RowsType, types.BaseTuple, types.Number, to=lambda *_: types.none)
def _(context, builder, sig, values):
    rows, place, kind = sig.args
    index = cgutils.unpack_tuple(builder, values[1])
    where = _address(context, builder, rows, values[0], place.types, index, _element(rows))
    builder.store(context.cast(builder, values[2], kind, rows.dtype), where)
    return context.get_dummy_value()


@_compiles(load, LanesType, RowsType, types.Integer, to=lambda lanes, *_: Vector(lanes))
def _(context, builder, sig, values):
    lanes, rows, row = sig.args
    where = _address(context, builder, rows, values[1], [row], values[2:], _vector(lanes))
    return builder.load(where, align=lanes.dtype.bitwidth // 8)


@_compiles(store, RowsType, types.Integer, Vector, to=lambda *_: types.none)
def _(context, builder, sig, values):
    rows, row, lanes = *sig.args[:2], sig.args[2].lanes
    where = _address(context, builder, rows, values[0], [row], values[1:2], _vector(lanes))
    builder.store(values[2], where, align=lanes.dtype.bitwidth // 8)
    return context.get_dummy_value()


@_compiles(lane_count, LanesType, to=lambda _: types.int64)
def _(_context, _builder, sig, _values):
    return ir.IntType(64)(sig.args[0].width)


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
    """Build AVX-512's estimate of 1/sqrt(a), relative error below 2**-14."""
    name = f"llvm.x86.avx512.rsqrt14.p{'s' if lanes.dtype == types.float32 else 'd'}.512"
    size = 512 // lanes.dtype.bitwidth
    register = ir.VectorType(_element(lanes), size)
    nothing, every = ir.Constant(register, [0.0] * size), ir.IntType(size)(-1)

    parts = [
        _call(builder, name, register, part, nothing, every)
        for part in _registers(builder, a, size)
    ]
    whole = parts[0]
    if len(parts) > 1:
        whole = builder.shuffle_vector(*parts, _counting(0, lanes.width))
    return whole


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
    # With y the estimate and a y**2 = 1 + d, a**(-3/2) = y**3 (1 + d)**(-3/2), |d| < 2**-13:
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


@_compiles(inverse, Vector, to=lambda a: a)
def _(_context, builder, sig, values):
    lanes, (a,) = sig.return_type.lanes, values
    one = _constant(lanes, 1.0)
    if lanes.instructions != "avx512":
        return builder.fdiv(one, a)
    # As in `inverse_cube`: 1/a = y**2 / (1 + d) = y**2 (1 - d + d**2) up to 2e-12.
    y = _estimate(builder, lanes, a)
    square = builder.fmul(y, y)
    d = _fma(builder, lanes, a, square, _constant(lanes, -1.0))
    factor = _fma(builder, lanes, builder.fsub(d, one), d, one)
    return builder.fmul(square, factor)


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
    take, RowsType, types.Integer, types.Integer, Mask, Vector, to=lambda *kinds: kinds[-1]
)
def _(context, builder, sig, values):
    rows, place, lanes = sig.args[0], sig.args[1:3], sig.return_type.lanes
    where = _address(context, builder, rows, values[0], place, values[1:3], _element(lanes))
    name = f"llvm.masked.expandload.{_suffix(lanes)}"
    return _call(builder, name, _vector(lanes), where, values[3], values[4])


@_compiles(put, RowsType, types.Integer, types.Integer, Vector, Mask, to=lambda *_: types.none)
def _(context, builder, sig, values):
    rows, place, lanes = sig.args[0], sig.args[1:3], sig.args[3].lanes
    where = _address(context, builder, rows, values[0], place, values[1:3], _element(lanes))
    if lanes.instructions == "avx512":
        _put_registers(builder, lanes, values[3], values[4], where)
    else:
        name = f"llvm.masked.compressstore.{_suffix(lanes)}"
        _call(builder, name, ir.VoidType(), values[3], where, values[4])
    return context.get_dummy_value()


def _put_registers(builder, lanes, vector, mask, where):
    """Build `put` for AVX-512: lanes move up within a register, then go to memory.

    The one instruction for both takes Zen 4 some hundred cycles.
    """
    size = 512 // lanes.dtype.bitwidth
    kind = f"v{size}f{lanes.dtype.bitwidth}"
    register = ir.VectorType(_element(lanes), size)
    flags = ir.IntType(size)
    for part, chosen in zip(
        _registers(builder, vector, size), _registers(builder, mask, size), strict=True
    ):
        name = f"llvm.x86.avx512.mask.compress.{kind}"
        packed = _call(builder, name, register, part, ir.Constant(register, None), chosen)
        count = _call(builder, f"llvm.ctpop.i{size}", flags, builder.bitcast(chosen, flags))
        wide = builder.zext(count, ir.IntType(32))
        lowest = builder.not_(builder.shl(ir.IntType(32)(-1), wide))
        lowest = builder.bitcast(builder.trunc(lowest, flags), chosen.type)
        align = ir.IntType(32)(lanes.dtype.bitwidth // 8)
        target = builder.bitcast(where, register.as_pointer())
        _call(
            builder,
            f"llvm.masked.store.{kind}.p0",
            ir.VoidType(),
            packed,
            target,
            align,
            lowest,
        )
        where = builder.gep(where, [builder.zext(count, ir.IntType(64))])


def _registers(builder, values, size):
    """Return a vector in parts of `size` lanes."""
    return [
        builder.shuffle_vector(values, values, _counting(first, size))
        for first in range(0, values.type.count, size)
    ]


def _counting(first, count):
    """Return the numbers from `first`, for a shuffle."""
    return ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(first, first + count)))
