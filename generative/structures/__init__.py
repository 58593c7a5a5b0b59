"""Atomic structures: files, neighbours, radial distribution, measures.

Lengths are in Å and angles in degrees.
"""

from .reading import read, write
from .structure import Structure

__all__ = ["Structure", "read", "write"]
