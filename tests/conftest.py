"""Fixtures that several files of tests share."""

import os

# Two processes test on two cores, with small matrices: threads of torch would wait for each
# other most of the time. It counts when torch is imported, so it stands before all else.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from inverting import SIMULATE, know, run

from coulex import dataset


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Return the bytes of a file of simulated OCS."""
    out = tmp_path_factory.mktemp("simulated") / "ocs.h5"
    run(f"{SIMULATE} -o {out}")
    return out.read_bytes()


@pytest.fixture
def threads():
    """Give torch back its threads, which a command sets."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def oracle(tmp_path, monkeypatch, simulated):
    """Put that file into an empty folder, and an inversion in place that knows it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", os.devnull)
    tmp_path.joinpath("ocs.h5").write_bytes(simulated)
    data = dataset.open("ocs.h5")
    return know(monkeypatch, data["momenta"], data["initial_positions"])
