"""How good generated environments and structures are, and beside what that must be read.

A distance between distributions says nothing by itself. Beside each stand the same distances
of real data from other real data (the noise floor), and of generators that anybody can write
down.
"""

from .environments import Card, environments
from .whole import whole

__all__ = ["Card", "environments", "whole"]
