"""A model on disk: the same on return, and whatever is not what it says it is refused."""

import json
import pickle

import numpy as np
import pytest
import torch
from pairs import Pairs, linear_data
from safetensors.torch import load_file, save_file

from coulex.errors import CorruptFileError, InvalidDataError
from generative.data import Arrays
from generative.files import MODEL, PARAMETERS, _digest
from generative.model import load, model_class
from generative.recipe import Training
from generative.train import fit


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    kind = model_class("gaussian")
    made = kind(kind.options_type(), Pairs())
    fit(made, Arrays(linear_data(500)), Training(epochs=2, batch_size=50))
    return made


@pytest.fixture
def folder(model, tmp_path):
    model.save(tmp_path, note="for a test")
    return tmp_path


def changed(folder, **changes):
    """Write another content under a right digest, as somebody might who knows the format."""
    content = json.loads((folder / MODEL).read_text())
    content.update(changes)
    content.pop("sha256")
    (folder / MODEL).write_text(json.dumps(content | {"sha256": _digest(content)}))


def test_a_model_comes_back(model, folder):
    again = load(folder)
    assert type(again) is type(model)
    assert again.representation == model.representation
    assert again.options == model.options
    state = again.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    condition = torch.zeros(3, 3)
    drawn = [m.sample(condition, 5, torch.Generator().manual_seed(1)) for m in (model, again)]
    assert torch.equal(*drawn)


def test_a_flipped_bit(folder):
    for name in (MODEL, PARAMETERS):
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        with pytest.raises(CorruptFileError, match=r"damaged|not JSON|other keys"):
            load(folder)
        (folder / name).write_bytes(whole)


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('executed')",))

    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CorruptFileError, match="nothing is unpickled"):
        load(path)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / MODEL).write_bytes(path.read_bytes())
    with pytest.raises(CorruptFileError, match="not JSON"):
        load(folder)


def test_parameters_that_are_a_pickle(folder):
    (folder / PARAMETERS).write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CorruptFileError, match="damaged"):
        load(folder)
    from coulex.dataset.files import file_digest

    changed(folder, parameters_sha256=file_digest(folder / PARAMETERS))
    with pytest.raises(CorruptFileError, match="not a safetensors file"):
        load(folder)


def test_nothing_there(tmp_path):
    with pytest.raises(InvalidDataError, match="there is no model"):
        load(tmp_path)
    (tmp_path / "checkpoint.safetensors").touch()
    with pytest.raises(InvalidDataError, match="--resume"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a model of coulex"),
        ({"format_version": 99, "needs": "9.0"}, "needs coulex >= 9.0"),
        ({"surprise": 1}, "other keys than expected"),
        ({"name": "nothing"}, "no model 'nothing'"),
        ({"options": {"width": 3}}, "no option width"),
        ({"representation": {"kind": "nothing"}}, "no representation 'nothing'"),
        ({"representation": {"kind": "pairs", "size": 5}}, "tensors are not those"),
        ({"representation": {"kind": "pairs", "size": 10**15}}, "describes no model"),
        ({"options": {"width": 10**12}}, "an option of 1000000000000"),
        ({"self_test": {"loss": 9e9, "draws": []}}, "self-test of another model"),
    ],
)
def test_descriptions_that_fit_nothing(folder, change, message):
    changed(folder, **change)
    with pytest.raises(CorruptFileError, match=message):
        load(folder)


@pytest.mark.parametrize("damage", ["missing", "misshaped", "foreign"])
def test_tensors_that_do_not_fit(folder, damage):
    from coulex.dataset.files import file_digest

    state = load_file(folder / PARAMETERS)
    name = next(iter(state))
    if damage == "missing":
        del state[name]
    else:
        state[name if damage == "misshaped" else "other"] = torch.zeros(7, 7)
    save_file(state, folder / PARAMETERS)
    changed(folder, parameters_sha256=file_digest(folder / PARAMETERS))
    with pytest.raises(CorruptFileError, match="does not hold the tensors"):
        load(folder)


def test_another_program_is_noticed(folder):
    stored = json.loads((folder / MODEL).read_text())["self_test"]
    changed(folder, self_test={**stored, "loss": stored["loss"] + 0.1})
    with pytest.raises(CorruptFileError, match="computes another model"):
        load(folder)
    changed(folder, self_test={**stored, "draws": list(np.array(stored["draws"]) + 1)})
    with pytest.raises(CorruptFileError, match="computes another model"):
        load(folder)


def test_numbers_that_are_not_finite_are_not_saved(model, tmp_path):
    broken = load_copy(model)
    with torch.no_grad():
        next(broken.parameters()).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        broken.save(tmp_path)
    assert not list(tmp_path.iterdir())


def load_copy(model):
    made = type(model)(model.options, model.representation)
    made.load_state_dict(model.state_dict())
    return made
