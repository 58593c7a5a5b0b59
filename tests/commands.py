"""A command that is run in this process."""

from typer.testing import CliRunner

from coulex.cli import app


def run(*words):
    """Run a command of words, which are split where they have spaces."""
    return CliRunner().invoke(app, [str(w) for word in words for w in str(word).split()])
