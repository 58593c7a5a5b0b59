"""What the tests of `coulex invert` share: a command that is run, and an answer to it."""

import hashlib
import json
import shlex
from pathlib import Path

import numpy as np
from oracle import Oracle
from typer.testing import CliRunner

import coulex
from coulex import Molecule
from coulex.cli import app

N = 300
BOX = "--ensemble box --first-bond 1:1.5 --second-bond 1.3:1.8 --angle 120:180"
SIMULATE = f"simulate OCS -n {N} --charges 2,2,2 {BOX} --tolerance 1e-13"


def know(monkeypatch, momenta, positions):
    known = Oracle(momenta, positions)
    monkeypatch.setattr(coulex, "invert", known, raising=False)
    return known


def run(line, code=0):
    result = CliRunner().invoke(app, shlex.split(line))
    assert result.exit_code == code, (result.output, result.exception)
    assert "Traceback" not in result.output
    return result


def as_json(result):
    return json.loads(result.stdout)


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def listed(path, momenta, **arrays):
    """Write a list of measured momenta, in atomic units, and the constants of OCS."""
    molecule = Molecule.named("OCS").with_charges([2, 2, 2])
    constants = {"masses": molecule.ion_masses, "masses_units": "me"}
    constants |= {"charges": molecule.charges, "numbers": molecule.numbers}
    np.savez(path, momenta=momenta, momenta_units="au", **{**constants, **arrays})
