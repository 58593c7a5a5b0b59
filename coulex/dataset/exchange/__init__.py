"""Events to and from the files of others: CSV, npz, extxyz and foreign HDF5.

Units are declared, by the file or by whoever imports it, and never guessed. An import reads
in blocks; NaN, missing numbers and ragged rows are errors that name the line.
"""

from .events import FORMATS, Source, export_events, import_events, read_source
from .labels import labels, parse_columns

__all__ = [
    "FORMATS",
    "Source",
    "export_events",
    "import_events",
    "labels",
    "parse_columns",
    "read_source",
]
