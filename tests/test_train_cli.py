"""`coulex train`: from the command line to a model, and an end for every mistake."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from commands import run
from typer.testing import CliRunner

from coulex.cli import app
from generative.data import part_of
from generative.model import load

pytestmark = pytest.mark.usefixtures("threads")

QUICK = "--epochs 2 --batch-size 50 --learning-rate 0.01"


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "ocs.h5"
    command = (
        f"simulate OCS -n 2000 --charges 2,2,2 --ensemble gaussian --sigma 0.05 -o {path}"
    )
    assert CliRunner().invoke(app, command.split()).exit_code == 0
    return path


def test_a_model_comes_out(events, tmp_path):
    done = run("train gaussian", events, "-o", tmp_path / "m", QUICK, "--json")
    assert done.exit_code == 0, done.output
    made = json.loads(done.stdout)
    assert made["epochs"] == 2
    assert sum(made["events"].values()) == 2000
    assert set(made["losses"]) == {"train", "validation", "test"}
    model = load(tmp_path / "m")
    assert sum(p.numel() for p in model.parameters()) == made["parameters"]
    with (tmp_path / "m/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert float(rows[-1]["val_loss"]) == pytest.approx(made["losses"]["validation"]["loss"])
    assert "OCS" not in (tmp_path / "m/README.md").read_text()  # knows atoms, no names
    assert (tmp_path / "m/learning.png").stat().st_size > 5000
    assert {p.name for p in tmp_path.iterdir()} == {"m"}  # no lock, no unfinished parts


def test_the_table_is_readable(events, tmp_path):
    """Of an autoencoder too, which has a loss for each latent."""
    done = run(
        "train cvae", events, "-o", tmp_path / "m", QUICK, "--set latent_size=9,hidden=8"
    )
    assert done.exit_code == 0, done.output
    assert "active_units" in done.stdout
    assert "…" not in done.stdout
    assert "kl_9" in (tmp_path / "m/metrics.csv").read_text()


def test_a_seed_decides_everything(events, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert (
            run(
                "train gaussian", events, "-o", tmp_path / name, QUICK, "--seed", seed
            ).exit_code
            == 0
        )
    a, b, c = (load(tmp_path / name).state_dict() for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


def test_options_from_flags_and_a_file(events, tmp_path):
    config = tmp_path / "run.toml"
    config.write_text(
        'epochs = 1\nbatch-size = 64\nset = "width=16,blocks=1"\nnoise = [0.01, 0.05]\n'
        'conditions = "scale-free,log-ker,noise"\ncoordinates = "shape"\n'
    )
    done = run("train mlp", events, "-o", tmp_path / "m", "--config", config, "--seed 5")
    assert done.exit_code == 0, done.output
    model = load(tmp_path / "m")
    assert (model.options.width, model.options.blocks) == (16, 1)
    assert model.representation.noise == (0.01, 0.05)
    assert model.representation.coordinates == "shape"
    assert model.condition_size == 5 + 1 + 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("train nothing {events} -o {out}", 2, "no model 'nothing'; there are"),
        ("train mlp {events} -o {out} --set width=0", 2, "width must be at least 1"),
        ("train mlp {events} -o {out} --set depth=3", 2, "no option depth; there are"),
        ("train mlp {events} -o {out} --set width", 2, "expected K=V pairs"),
        ("train mlp {events} -o {out} --set width=1.5", 2, "width must be a whole number"),
        ("train mlp {events} -o {out} --set width=a", 2, "width must be a whole number"),
        ("train mlp {events} -o {out} --set blocks=true", 2, "blocks must be a whole number"),
        ("train mlp {events} -o {out} --set width=8:8", 2, "width must be a whole number"),
        ("train cvae {events} -o {out} --set hidden=8:a", 2, "hidden must be values, each a"),
        ("train cvae {events} -o {out} --set encodes_condition=a", 2, "must be true or false"),
        ("train mlp {events} -o {out} --see colour=3", 2, "no option colour"),
        ("train mlp {events} -o {out} --see noise=0.1", 2, "noise must be 2 values, each a"),
        ("train mlp {events} -o {out} --see masses=3", 2, "no option masses"),
        ("train mlp {events} -o {out} --device meta", 2, "--device must be cpu, cuda"),
        ("train mlp {events} -o {out} --set width=100000000", 1, "sizes of the model"),
        ("train mlp {events} -o {out} --preset best", 2, "no preset 'best'"),
        ("train mlp {events} -o {out} --batch-size 5000", 2, "fewer than a batch of 5000"),
        ("train mlp {events} -o {out} --device cuda", 2, "no silent change to the CPU"),
        ("train mlp {events} -o {out} --conditions ker,colour", 2, "no condition colour"),
        (
            "train mlp {events} -o {out} --learning-rate -1",
            2,
            "learning_rate must be positive",
        ),
        ("train mlp {events} -o {out} --resume --overwrite", 2, "give one of them"),
        ("train mlp {events}.missing -o {out}", 1, "ocs.h5.missing"),
        ("train mlp {events} -o {out}/deeper/m", 1, "make it first"),
        ("train mlp {events} -o . --overwrite", 1, "name a new folder"),
    ],
)
def test_mistakes(events, tmp_path, words, code, message):
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = run(words.format(events=events, out=tmp_path / "m"))
    assert done.exit_code == code, done.output
    assert message in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error")]) == 1
    assert not list(tmp_path.iterdir())  # nothing that a better command would stumble over


def test_output_that_exists(events, tmp_path):
    folder = tmp_path / "m"
    assert run("train gaussian", events, "-o", folder, QUICK).exit_code == 0
    done = run("train gaussian", events, "-o", folder, QUICK)
    assert done.exit_code == 1
    assert "--overwrite replaces it" in done.stderr
    done = run("train gaussian", events, "-o", folder, QUICK, "--seed 2 --overwrite")
    assert done.exit_code == 0
    assert json.loads((folder / "model.json").read_text())["about"]["training"]["seed"] == 2


def test_nothing_but_a_model_is_replaced(events, tmp_path):
    """The data themselves may stand there, by mistake."""
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "mine.txt").write_text("keep")
    before = events.read_bytes()
    for out, message in ((folder, "holds mine.txt"), (events, "no folder of a model")):
        done = run("train gaussian", events, "-o", out, QUICK, "--overwrite")
        assert done.exit_code == 1
        assert message in done.stderr
    assert (folder / "mine.txt").read_text() == "keep"
    assert events.read_bytes() == before
    assert not list(events.parent.glob("*.parts"))


def test_a_training_that_has_ended_is_not_begun_again(events, tmp_path, monkeypatch):
    words = ("train gaussian", events, "-o", tmp_path / "m", QUICK, "--resume")
    monkeypatch.setattr("generative.production.swap", killed)
    assert run(*words).exit_code != 0  # between the last epoch and the final name
    monkeypatch.undo()
    epochs = []
    monkeypatch.setattr("generative.run.Run.step", lambda *_: epochs.append(1))
    for _ in range(2):
        assert run(*words).exit_code == 0
        assert load(tmp_path / "m").name == "gaussian"
        assert {path.name for path in tmp_path.iterdir()} == {"m"}
        assert not (tmp_path / "m/checkpoint.safetensors").exists()
    assert not epochs
    other = run(*words, "--seed 2")
    assert other.exit_code == 4
    assert "training.seed 1, now 2" in other.stderr


def killed(*_):
    raise KeyboardInterrupt


def stored(path, **changes):
    """Write 600 events that mean nothing, some of them changed."""
    from coulex.dataset import Shard, Target

    rng = np.random.default_rng(1)
    arrays = {"momenta": rng.normal(size=(600, 3, 3)), "charges": np.full(3, 2.0)}
    arrays |= {"initial_positions": rng.normal(size=(600, 3, 3)), "masses": np.full(3, 3e4)}
    for name, (event, value) in changes.items():
        arrays[name][event, 2, 1] = value
    with Target(path, {}, {}, 600) as target:
        target.write(Shard(0, 0, 600), arrays)
        target.finalize()
    return path


@pytest.mark.parametrize("name", ["momenta", "initial_positions"])
@pytest.mark.parametrize("event", [500, int(np.flatnonzero(part_of(1, 0, 600) == 0)[0])])
def test_data_that_are_not_finite(name, event, tmp_path):
    path = stored(tmp_path / "nan.h5", **{name: (event, np.nan)})
    small = "--set width=8,blocks=1 --coordinates shape"
    done = run("train mlp", path, "-o", tmp_path / "m", QUICK, small)
    assert done.exit_code == 1
    assert f"event {event} (row {event} of" in done.stderr


@pytest.mark.parametrize("count", [1, 2])
def test_hardly_any_event(count, tmp_path):
    made = run(f"simulate OCS -n {count} --charges 2,2,2 -o {tmp_path / 'few.h5'}")
    assert made.exit_code == 0
    done = run("train flow", tmp_path / "few.h5", "-o", tmp_path / "m", "--batch-size 1")
    assert done.exit_code == 2
    assert "more are needed" in done.stderr or "more events are needed" in done.stderr


def test_a_loss_that_is_not_finite(events, tmp_path, monkeypatch):
    from generative.gaussian import Gaussian

    plain, calls = Gaussian._loss, iter(range(10**6))

    def doomed(self, x, c):
        worse = torch.nan if self.training and next(calls) > 40 else 0.0
        return {key: value + worse for key, value in plain(self, x, c).items()}

    monkeypatch.setattr(Gaussian, "_loss", doomed)
    done = run("train gaussian", events, "-o", tmp_path / "m", QUICK)
    assert done.exit_code == 1
    assert "the loss became nan in epoch 1" in done.stderr
    assert "the best parameters until then are in" in done.stderr
    assert not (tmp_path / "m").exists()
    assert load(tmp_path / "m.failed").name == "gaussian"


def test_out_of_memory(events, tmp_path, monkeypatch):
    from generative.gaussian import Gaussian

    def greedy(self, x, c):
        msg = "CUDA out of memory. Tried to allocate 9 GiB"
        raise torch.OutOfMemoryError(msg)

    monkeypatch.setattr(Gaussian, "_loss", greedy)
    done = run("train gaussian", events, "-o", tmp_path / "m", QUICK)
    assert done.exit_code == 1
    assert "lower --batch-size or the sizes of the model" in done.stderr


def test_what_never_varies_is_said(tmp_path):
    made = run(f"simulate OCS -n 500 --charges 2,2,2 -o {tmp_path / 'one.h5'}")
    assert made.exit_code == 0
    done = run("train gaussian", tmp_path / "one.h5", "-o", tmp_path / "m", QUICK)
    assert done.exit_code == 0, done.output
    assert "never vary: shifted, not scaled" in done.stdout


def start(events, folder):
    words = f"train mlp {events} -o {folder} --epochs 400 --patience 0 --batch-size 100"
    command = [sys.executable, "-c", "from coulex.cli import main; main()", *words.split()]
    command += ["--set", "width=64"]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_sigterm_leaves_what_resume_continues(events, tmp_path):
    process = start(events, tmp_path / "m")
    checkpoint = tmp_path / "m.parts/checkpoint.safetensors"
    for _ in range(600):
        if checkpoint.exists():
            break
        time.sleep(0.1)
    second = start(events, tmp_path / "m")
    _, said = second.communicate(timeout=60)
    assert second.returncode == 1
    assert "another training is at work" in said
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "--resume continues it" in said
    assert not (tmp_path / "m").exists()
    done = run("train mlp", events, "-o", tmp_path / "m", "--epochs 400 --batch-size 100")
    assert done.exit_code == 1
    assert "unfinished training: --resume it" in done.stderr
    done = run(
        "train mlp", events, "-o", tmp_path / "m", "--epochs 400 --batch-size 100 --resume"
    )
    assert done.exit_code == 4  # another width
    assert "options.width 64, now" in done.stderr
