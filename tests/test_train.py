"""The training loop: a known answer, exact resumption, and an end for every failure."""

import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pairs import Pairs, linear_data

from coulex.errors import CorruptFileError, MismatchError
from generative.checkpoint import CHECKPOINT
from generative.data import Arrays, Stream
from generative.model import Model, Options, model_class
from generative.recipe import Training, TrainingError
from generative.train import evaluate, fit

QUICK = Training(epochs=6, batch_size=100, learning_rate=0.03, warmup=5, seed=3)


@pytest.fixture(scope="module")
def data():
    return Arrays(linear_data(2000))


def gaussian(representation=None):
    torch.manual_seed(0)
    kind = model_class("gaussian")
    return kind(kind.options_type(), representation or Pairs())


def same(a: Model, b: Model) -> bool:
    mine, other = a.state_dict(), b.state_dict()
    return all(torch.equal(mine[key], other[key]) for key in mine)


def test_the_closed_form_is_reached(data):
    model = gaussian()
    result = fit(model, data, replace(QUICK, epochs=60))
    stream = Stream(data, Pairs(), "train", seed=3)
    batch = next(stream.batches(10_000))
    y = torch.cat([batch.condition, torch.ones(stream.n, 1)], 1).double()
    x = batch.x.double()
    left = x - y @ torch.linalg.lstsq(y, x).solution
    best = torch.distributions.MultivariateNormal(
        torch.zeros(2).double(), left.T @ left / len(x)
    )
    reached = model.log_prob(*batch).mean()[0]
    assert reached <= best.log_prob(left).mean() + 1e-6  # nothing is more probable than that
    assert reached == pytest.approx(float(best.log_prob(left).mean()), abs=2e-3)
    assert result.finished
    assert result.history.rows[-1]["lr"] < 1e-3 * QUICK.learning_rate * 10


def test_scales_are_those_of_the_training_part(data):
    model = gaussian()
    fit(model, data, replace(QUICK, epochs=1))
    batch = next(Stream(data, Pairs(), "train", seed=3).batches(10_000))
    assert torch.allclose(model.centre, batch.x.mean(0), atol=1e-5)
    assert torch.allclose(model.spread, batch.x.std(0, correction=0), rtol=1e-5)


def test_a_constant_column_is_not_divided_by_zero():
    arrays = linear_data(500)
    arrays["y"][:, 1] = 7.0
    arrays["x"][:, 0] = -3.0
    model = gaussian()
    model.standardise(Stream(Arrays(arrays), Pairs(), "all", seed=1).batches(100))
    assert model.condition_spread[1] == 1
    assert model.spread[0] == 1
    assert model.centre[0] == -3


def test_the_best_epoch_is_kept(data):
    model = gaussian()
    wild = replace(QUICK, learning_rate=3.0, schedule="constant", clip=0.0, epochs=8)
    history = fit(model, data, wild).history
    losses = [row["val_loss"] for row in history.rows]
    stream = Stream(data, Pairs(), "validation", seed=3)
    assert min(losses) < losses[-1]  # or this shows nothing
    assert evaluate(model, stream, 100)["loss"] == pytest.approx(min(losses), rel=1e-6)


def test_patience_ends_it(data):
    frozen = replace(QUICK, learning_rate=1e-30, epochs=50, patience=3)
    assert len(fit(gaussian(), data, frozen).history.rows) <= 5


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_stopped_training_goes_on_bit_for_bit(data, tmp_path, ema, noise):
    options = replace(QUICK, ema=ema, epochs=4)
    through, interrupted = gaussian(Pairs(noise=noise)), gaussian(Pairs(noise=noise))
    whole = fit(through, data, options)
    steps, resume = 0, False
    while True:  # stopped after every ninth step, in the middle of epochs
        count = iter(range(9))
        torch.manual_seed(steps)  # what others draw meanwhile does not matter
        interrupted = gaussian(Pairs(noise=noise)) if resume else interrupted
        part = fit(
            *(interrupted, data, options),
            folder=tmp_path,
            resume=resume,
            stop=lambda count=count: next(count, None) is None,
        )
        steps, resume = steps + part.samples, True
        if part.finished:
            break
    assert steps == whole.samples
    assert same(through, interrupted)
    strip = [{**row, "seconds": 0} for row in part.history.rows]
    assert strip == [{**row, "seconds": 0} for row in whole.history.rows]


def test_no_state_of_torch_is_touched(data):
    torch.manual_seed(5)
    fit(gaussian(), data, replace(QUICK, epochs=1))
    after = torch.rand(3)
    torch.manual_seed(5)
    gaussian()
    torch.manual_seed(0)
    gaussian()
    assert torch.equal(after, torch.rand(3))


def test_a_checkpoint_of_another_training_is_refused(data, tmp_path):
    fit(gaussian(), data, QUICK, folder=tmp_path, stop=lambda: True)
    with pytest.raises(MismatchError, match=r"training.learning_rate 0.03, now 0.5"):
        fit(
            *(gaussian(), data, replace(QUICK, learning_rate=0.5)),
            folder=tmp_path,
            resume=True,
        )
    other = Arrays(linear_data(2000, seed=1))
    with pytest.raises(MismatchError, match="data "):
        fit(gaussian(), other, QUICK, folder=tmp_path, resume=True)
    with pytest.raises(MismatchError, match="representation.noise 0.0, now 0.1"):
        fit(gaussian(Pairs(noise=0.1)), data, QUICK, folder=tmp_path, resume=True)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_checkpoint_is_refused(data, tmp_path, damage):
    fit(gaussian(), data, QUICK, folder=tmp_path, stop=lambda: True)
    path = tmp_path / CHECKPOINT
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
    path.write_bytes({"cut": content[:-9], "flip": content, "empty": b""}[damage])
    with pytest.raises(CorruptFileError, match="--overwrite"):
        fit(gaussian(), data, QUICK, folder=tmp_path, resume=True)


class Doomed(Model):
    """Its loss is not a number from the third epoch on."""

    name = "doomed"
    options_type = Options

    def __init__(self, options, representation):
        super().__init__(options, representation)
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("calls", torch.zeros(()))

    def _loss(self, x, c):
        if self.training:
            self.calls += 1
        return {"loss": (self.weight**2 + torch.where(self.calls > 40, torch.nan, 0.0)).sum()}

    def _sample(self, c, n, generator):
        return torch.zeros(len(c), n, *self.shape)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_best(data):
    model = Doomed(Options(), Pairs())
    with pytest.raises(TrainingError, match=r"the loss became nan in epoch 3, by step \d+"):
        fit(model, data, QUICK)
    assert 0 < float(model.weight.detach()) < 1  # trained for three epochs
    assert model.calls <= 40


def test_parts_that_are_too_small():
    with pytest.raises(ValueError, match="fewer than a batch of 100"):
        fit(gaussian(), Arrays(linear_data(50)), QUICK)
    with pytest.raises(ValueError, match="no event is left to validate with"):
        fit(gaussian(), Arrays(linear_data(3)), replace(QUICK, batch_size=1))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"learning_rate": -1.0}, "learning_rate must be positive"),
        ({"clip": -1.0}, "clip must be 0 or more"),
        ({"ema": 1.0}, "ema within"),
        ({"schedule": "step"}, "schedule must be cosine or constant"),
        ({"precision": "fp8"}, "precision must be float32 or bf16"),
    ],
)
def test_choices_check_themselves(choice, message):
    with pytest.raises(ValueError, match=message):
        Training(**choice)


def test_mixed_precision_trains(data):
    model = gaussian()
    losses = [
        row["val_loss"]
        for row in fit(model, data, replace(QUICK, precision="bf16")).history.rows
    ]
    assert losses[-1] < losses[0]
    assert all(p.dtype == torch.float32 for p in model.parameters())


SCRIPT = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
from pairs import Pairs, linear_data
from generative import parallel
from generative.data import Arrays
from generative.model import model_class
from generative.recipe import Training
from generative.train import fit

torch.set_num_threads(1)

def train(folder, epochs):
    parallel.start("cpu")
    torch.manual_seed(0)
    kind = model_class("gaussian")
    model = kind(kind.options_type(), Pairs(noise=0.1))
    options = Training(epochs=epochs, batch_size=100, learning_rate=0.03, seed=3)
    fit(model, Arrays(linear_data(2000)), options, folder=folder,
        resume=(folder / "checkpoint.safetensors").exists())
    if parallel.rank_and_world()[0] == 0:
        torch.save(model.state_dict(), folder / "state.pt")
    parallel.end()

"""

ONCE = """
parallel.start("cpu")

def interrupted(folder, steps, resume=False):
    torch.manual_seed(0)
    kind = model_class("cvae")
    model = kind(kind.options_type(latent_size=2, hidden=(8,)), Pairs(noise=0.1))
    options, left = Training(epochs=2, batch_size=100, seed=3), iter(range(steps))
    fit(model, Arrays(linear_data(600)), options, folder=folder, resume=resume,
        stop=lambda: next(left, None) is None)
    return model.state_dict()

# latents are drawn by every process for itself, and drawn on
through = interrupted(None, 99)
part = Path(sys.argv[1]) / "part"
part.mkdir(exist_ok=True)
interrupted(part, 2)
parallel.average(0.0)  # waits for the checkpoint
resumed = interrupted(part, 99, resume=True)
assert all(torch.equal(value, resumed[key]) for key, value in through.items())

train(Path(sys.argv[1]), int(sys.argv[2]))
left = [task.joinpath("comm").read_text() for task in Path("/proc/self/task").glob("*")]
assert not [name for name in left if "gloo" in name], left
"""

#: trains in a child for each line, and says its number and how it ended; once before, since
#: torch imports much at the first step
AGAIN_AND_AGAIN = """
train(Path(sys.argv[1]), 1)
for line in sys.stdin:
    folder, epochs = line.split()
    child = os.fork()
    if not child:
        train(Path(folder), int(epochs))
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def python(script: str, folder: Path, *words: str, **pipes) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    path = folder / "script.py"
    path.write_text(SCRIPT.format(tests=str(Path(__file__).parent)) + script)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *words, str(path), str(folder), "3"]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, **pipes)


def finished(process: subprocess.Popen) -> None:
    try:
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors.decode()[-2000:]


def test_killed_at_any_moment_and_resumed(tmp_path):
    """SIGKILL at random moments; in the end the parameters are those of a run without."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = python(AGAIN_AND_AGAIN, tmp_path / "server", **pipes)
    assert server.stdin
    assert server.stdout

    def trained(name: str, patience: float) -> tuple[int, float]:
        """Return how it ended, and after how many seconds."""
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        server.stdin.write(f"{folder} 40\n".encode())
        server.stdin.flush()
        child, begin = int(server.stdout.readline()), time.monotonic()
        if not select.select([server.stdout], [], [], patience)[0]:
            os.kill(child, signal.SIGKILL)
        return int(server.stdout.readline()), time.monotonic() - begin

    code, seconds = trained("whole", 60)
    assert code == 0
    rng, ends = np.random.default_rng(1), []
    while not ends or (ends[-1] != 0 and len(ends) < 30):
        # later ones get longer: the machine may have become slower
        patience = seconds * rng.uniform(0.1, 0.5) * (1 + 0.1 * len(ends))
        ends.append(trained("killed", patience)[0])
    server.stdin.close()
    server.wait(timeout=60)
    server.stdout.close()
    server.stderr.close()
    assert ends[-1] == 0
    assert set(ends[:-1]) == {-signal.SIGKILL}, ends
    one, other = (
        torch.load(tmp_path / name / "state.pt", weights_only=True)
        for name in ("whole", "killed")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    finished(python(ONCE, tmp_path / "one"))
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    finished(python(ONCE, tmp_path / "two", *two))
    one, other = (
        torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("one", "two")
    )
    for key in one:
        assert torch.allclose(one[key], other[key], atol=1e-5), key
