"""What can go wrong, by what the caller has to do about it.

The command line ends with the `exit_code` of the class and prints the message in one line.
"""


class CoulexError(Exception):
    """Any failure that the package foresees."""

    exit_code = 1


class InvalidDataError(CoulexError, ValueError):
    """The data given break a rule: the message names the value and the rule."""


class OutputError(CoulexError, OSError):
    """The output cannot be written: it exists, is busy, has no folder or no space."""


class IncompleteError(CoulexError):
    """Work is left to do; what is finished is kept, and the same command resumes it."""

    exit_code = 3


class CorruptFileError(CoulexError):
    """A file is not what it says it is: damaged, truncated, or not of our format."""

    exit_code = 4


class MismatchError(CoulexError):
    """Two things that must agree do not, such as a run and its resumption."""

    exit_code = 4
