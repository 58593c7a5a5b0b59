"""What the tests of import and export share: headers, units, and how to run the commands."""

from typer.testing import CliRunner

from coulex.cli.data import app

#: the header of the published OCS sets
PUBLISHED = "cx,cy,cz,ox,oy,oz,sx,sy,sz,pcx,pcy,pcz,pox,poy,poz,psx,psy,psz"
UNITS = {"position_units": "bohr", "momentum_units": "au"}
DECLARED = ["--position-units", "bohr", "--momentum-units", "au"]


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def table(path, text):
    path.write_text(text)
    return path


def one_block(source):
    return next(source.blocks(source.n_events))
