"""Figures of environments: what is in them."""

import numpy as np
import pytest
from surroundings import clusters

from coulex import plot, plot_motifs
from coulex.errors import InvalidDataError


def test_strip_has_a_panel_for_each_step_and_marks_what_is_too_close(tmp_path):
    x = np.array([[[2.4, 0, 0], [0, 2.4, 0]], [[2.4, 0, 0], [1.5, 0.2, 0]]])
    figure = plot_motifs.ways({"straight": x, "latent": x[:1]})
    assert len(figure.axes) == 4  # the second row is shorter, its frame empty
    assert figure.axes[0].get_title(loc="left") == "straight"
    assert figure.axes[1].get_title() == "closest pair 0.92 Å"
    red = [
        line.get_color() == plot.COLOURS[1] and line.get_linewidth() == 3
        for ax in figure.axes[:2]
        for line in ax.lines
    ]
    assert sum(red) == 2  # to the middle, and between the two
    plot.save(figure, tmp_path / "ways.png")
    assert (tmp_path / "ways.png").stat().st_size > 5000


def test_completions_have_a_row_for_each_environment():
    x = clusters(2)
    found = {"one": x[:, None, 6:], "two": x[:, None, 6:].repeat(3, axis=1)}
    figure = plot_motifs.completions(x[:, :6], x[:, 6:], found, ["first"])
    assert len(figure.axes) == 8
    assert [ax.get_title() for ax in figure.axes[:4]] == ["known", "○ hidden", "one", "two"]


def test_nothing_to_draw():
    with pytest.raises(InvalidDataError, match="no environments to draw"):
        plot_motifs.completions(np.zeros((0, 6, 3)), np.zeros((0, 2, 3)), {})
    with pytest.raises(InvalidDataError, match="finite positions"):
        plot_motifs.ways({"straight": np.full((2, 3, 3), np.nan)})
