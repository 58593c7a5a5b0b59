"""What the README shows is run, and prints what it says."""

import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_python_of_the_readme_prints_its_output():
    pattern = r"```python\n(.*?)```\n(?:[^`]*?)\n```\n(.*?)```"
    blocks = re.findall(pattern, README.read_text(), re.DOTALL)
    assert len(blocks) == 2
    known = {}  # a block goes on where the one before it ended
    for code, expected in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "README.md", "exec"), known)
        assert printed.getvalue() == expected
