"""Fixtures that several files of tests share."""

import os

import pytest
from inverting import SIMULATE, know, run

from coulex import dataset


@pytest.fixture(scope="session")
def simulated(tmp_path_factory):
    """Return the bytes of a file of simulated OCS."""
    out = tmp_path_factory.mktemp("simulated") / "ocs.h5"
    run(f"{SIMULATE} -o {out}")
    return out.read_bytes()


@pytest.fixture
def oracle(tmp_path, monkeypatch, simulated):
    """Put that file into an empty folder, and an inversion in place that knows it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", os.devnull)
    tmp_path.joinpath("ocs.h5").write_bytes(simulated)
    data = dataset.open("ocs.h5")
    return know(monkeypatch, data["momenta"], data["initial_positions"])
