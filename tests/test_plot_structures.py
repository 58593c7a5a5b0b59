"""Figures of structures show the numbers that they are given, and refuse what is none."""

import numpy as np
import pytest

from coulex.errors import InvalidDataError
from coulex.plot_structures import projected_densities, radial_distributions


def test_radial_distributions_are_drawn_as_they_are():
    r = np.linspace(0.025, 4.2, 84)
    curves = {"trajectory": np.exp(-((r - 2.4) ** 2)), "drawn": np.ones(84)}
    (axes,) = radial_distributions(r, curves, below="1000 structures").axes
    for line, (name, g) in zip(axes.lines, curves.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_ydata(), g)
    curves["drawn"] = np.full(84, np.nan)
    with pytest.raises(InvalidDataError, match="drawn: expected 84 finite"):
        radial_distributions(r, curves)


def test_projected_densities_are_drawn_as_they_are():
    true = np.random.default_rng(0).random((3, 10))
    figure = projected_densities(np.array([4.0, 5.0, 6.0]), true / 2, true)
    for axis, axes in enumerate(figure.axes):
        values = [patch.get_data().values for patch in axes.patches]
        np.testing.assert_array_equal(values, [true[axis], true[axis] / 2])
        assert axes.get_xlim() == (0, 4 + axis)
    with pytest.raises(InvalidDataError, match="two arrays"):
        projected_densities(np.ones(3), true[:2], true)
    with pytest.raises(InvalidDataError, match="finite"):
        projected_densities(np.ones(3), true * np.inf, true)
