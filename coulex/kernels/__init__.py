"""The compiled core: numbers in, numbers and status codes out.

One file per idea: `simd` (lanes), `coulomb` (force), `nystroem` (steps), `tail` (to infinity),
`engine` (many events, with the lanes kept full).
"""

from . import lowering as _lowering  # noqa: F401, registers lanes with numba
