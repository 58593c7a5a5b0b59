"""Figures of draws and of trained models: what is in them, and what is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest
from geometries import OCS
from inverting import run
from models import events
from safetensors.numpy import save_file

from coulex import dataset, plot_corner, plot_draws, plot_learning
from coulex.dataset import Target
from coulex.errors import CorruptFileError, InvalidDataError

N, DRAWS, WIDTH = 300, 40, 0.05


def drawn(path, *, width=WIDTH, truth=True, missing=0):
    """Write draws of the distribution that the truth is from, unless of another width."""
    arrays, rng = events(3, N), np.random.default_rng(1)
    middle = arrays["initial_positions"]
    arrays["initial_positions"] = middle + WIDTH * rng.normal(size=middle.shape)
    x = middle[:, None] + width * rng.normal(size=(N, DRAWS, 3, 3))
    own = np.repeat(np.arange(missing, N), DRAWS)
    numbers = np.full(N, DRAWS, np.int32)
    numbers[:missing] = 0
    arrays |= {"positions": x.mean(axis=1), "n_solutions": numbers, "solution_event": own}
    arrays["solution_positions"] = x[missing:].reshape(-1, 3, 3)
    arrays["solution_weight"] = np.full(len(own), 1 / DRAWS)
    if not truth:
        del arrays["initial_positions"]
    with Target(path, {"molecule": OCS.describe(), "sampler": {"model": "toy"}}, {}, N) as out:
        for shard in out.missing():
            out.write(shard, arrays)
        out.finalize()
    return dataset.open(path)


def texts(figure):
    found = [t.get_text() for axes in figure.axes for t in axes.texts]
    found += [axes.get_title() for axes in figure.axes]
    return "\n".join([*found, figure.get_suptitle()])


def model(folder, *, epochs=20, latents=None, **parts):
    """Write what a training leaves behind, but for the model itself."""
    folder.mkdir()
    epoch = np.arange(epochs)
    losses = {"train_loss": 1 / (1 + epoch), "val_loss": 0.1 + np.abs(epoch - 12) / 20}
    columns = {"epoch": epoch, "step": epoch, "lr": epoch, **losses, **parts}
    columns["seconds"] = epoch + 0.5
    with (folder / "metrics.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(
            zip(*(np.broadcast_to(c, epochs) for c in columns.values()), strict=True)
        )
    state = {"weight": np.ones(3, np.float32)}
    if latents is not None:
        state["latents.stored"] = latents.astype(np.float32)
    save_file(state, folder / "parameters.safetensors")
    return folder


# -- draws


def test_predicted_says_how_far_off_draws_are(tmp_path):
    data = drawn(tmp_path / "draws.h5", missing=5)
    figure = plot_draws.predicted(data)
    assert "295 events, 5 without draws or truth left out" in texts(figure)
    shown = [axes for axes in figure.axes if axes.collections]
    assert [axes.get_title() for axes in shown] == ["C–O (Å)", "C–S (Å)", "angle O–C–S (°)"]
    for axes in shown:
        counts = axes.collections[0].get_array()
        outside = [t.get_text() for t in axes.texts][0].rpartition("\n")[2]
        lost = int(outside.split()[0]) if outside.endswith("outside") else 0
        assert counts.sum() + lost == 295


def test_calibrated_draws_stay_in_the_band(tmp_path):
    data = drawn(tmp_path / "draws.h5")
    left, right = plot_draws.calibration([data]).axes
    off = max(np.abs(line.get_ydata()).max() for line in left.lines)
    assert off < 1.95 / N**0.5  # of which one in a thousand is farther
    for line in right.lines[1:]:
        assert line.get_ydata()[-1] == 1


def test_draws_that_are_too_sure_leave_it(tmp_path):
    data = drawn(tmp_path / "draws.h5", width=WIDTH / 3)
    left, right = plot_draws.calibration([data]).axes
    assert max(np.abs(line.get_ydata()).max() for line in left.lines) > 4 / N**0.5
    covered = right.lines[1].get_ydata()[100]  # of the interval of 50 %
    assert covered < 0.35


def test_corner_of_draws_that_are_far_beyond_all_molecules(tmp_path):
    """A flow may draw them of momenta that it never saw the like of."""
    data = drawn(tmp_path / "far.h5", width=1e160)
    with pytest.raises(InvalidDataError, match="of event 0 0 draws are geometries"):
        plot_corner.corner(data)


def test_corner_shows_the_draws_of_one_event(tmp_path):
    data = drawn(tmp_path / "draws.h5", missing=5)
    figure = plot_corner.corner(data, event=7)
    assert "event 7, 40 draws" in texts(figure)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 6
    heights = shown[0].patches[0].get_data().values
    assert heights.sum() == pytest.approx(1)
    for event, said in ((3, "has 0 draws"), (N, "has events 0 to 299")):
        with pytest.raises(InvalidDataError, match=said):
            plot_corner.corner(data, event=event)


def test_figures_of_draws_need_draws_and_a_truth(tmp_path):
    blind = drawn(tmp_path / "blind.h5", truth=False)
    for draw in (plot_draws.predicted, lambda data: plot_draws.calibration([data])):
        with pytest.raises(InvalidDataError, match="true positions"):
            draw(blind)
    plot_corner.corner(blind)  # which can do without
    with pytest.raises(InvalidDataError, match="no event has draws"):
        plot_draws.predicted(drawn(tmp_path / "none.h5", missing=N))


# -- trained models


def test_learning_marks_the_best_epoch(tmp_path):
    figure = plot_learning.learning([model(tmp_path / "one", kl=3.0, kl_1=1.0, mse=0.5)])
    axes, *parts = figure.axes
    assert "best: epoch 12" in texts(figure)
    assert "20 epochs" in texts(figure)
    assert [line.get_label() for line in axes.lines[:2]] == ["training", "validation"]
    assert [panel.get_title() for panel in parts] == ["kl", "mse"]


def test_models_are_overlaid(tmp_path):
    folders = [model(tmp_path / "one", kl=3.0), model(tmp_path / "two", epochs=15, mse=1.0)]
    axes, *parts = plot_learning.learning(folders).axes
    labels = [line.get_label() for line in axes.lines]
    assert {"one: training", "two: validation"} <= set(labels)
    assert [len(panel.lines) for panel in parts] == [1, 1]


def test_losses_that_are_not_finite_are_counted(tmp_path):
    folder = model(tmp_path / "one", train_loss=np.r_[np.nan, np.inf, np.ones(18)])
    assert "2 losses that are not finite" in texts(plot_learning.learning([folder]))


def test_latents_and_their_worth(tmp_path):
    z = np.random.default_rng(1).normal(size=(500, 3)) * [1, 1, 0]
    folder = model(tmp_path / "one", latents=z, kl_1=0.5, kl_2=2.0, kl_3=0.0)
    figure = plot_learning.latents(folder)
    bars, cloud = figure.axes
    assert [bar.get_height() for bar in bars.patches] == [2.0, 0.5, 0.0]
    assert [t.get_text() for t in bars.get_xticklabels()] == ["2", "1", "3"]
    assert "2 of 3 active" in texts(figure)
    assert np.allclose(cloud.lines[0].get_xdata(), z[:, 1], atol=1e-6)


def test_what_is_no_model_is_refused(tmp_path):
    for draw in (lambda f: plot_learning.learning([f]), plot_learning.latents):
        with pytest.raises(InvalidDataError, match="holds no"):
            draw(tmp_path)
    with pytest.raises(InvalidDataError, match="keeps no latents"):
        plot_learning.latents(model(tmp_path / "one"))
    broken = model(tmp_path / "broken", latents=np.ones((5, 2)))
    (broken / "parameters.safetensors").write_bytes(b"\x80\x04 pickle")
    with pytest.raises(CorruptFileError, match="not a safetensors"):
        plot_learning.latents(broken)
    for text, said in (("epoch,step\n1,2\n", "it has no"), ("epoch,lr\nx,y\n", "not the")):
        (broken / "metrics.csv").write_text(text)
        with pytest.raises(CorruptFileError, match=said):
            plot_learning.learning([broken])
    (broken / "metrics.csv").write_text("")
    with pytest.raises(InvalidDataError, match="no epoch"):
        plot_learning.learning([broken])


def test_the_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawn(Path("draws.h5"))
    model(Path("one"), latents=np.eye(4), kl_1=0.1)
    for line in (
        "predicted draws.h5",
        "corner draws.h5 --event 2",
        "calibration draws.h5 draws.h5",
        "learning one one",
        "latents one",
    ):
        name = line.split()[0]
        run(f"plot {line} -o {name}.png")
        assert Path(f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "exists" in run(f"plot {line} -o {name}.png", 1).stderr
    assert "has events" in run("plot corner draws.h5 --event 999 -o e.png", 1).stderr
    assert not Path("e.png").exists()
