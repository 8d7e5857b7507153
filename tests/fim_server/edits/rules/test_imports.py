"""Rule: imports that an edit made necessary or unused."""

from __future__ import annotations

from functools import partial

import edit_pages
import pytest

from fim_server.edits.rules.import_lines import read_import

expected = partial(edit_pages.expected, rules=("missing_imports",))

TOP = "import os\nfrom a import b\n\nx = 1\n"


def test_an_import_is_inserted_in_sorted_order() -> None:
    assert expected(f"{TOP}y = sys.argv\n", (4, ""))[0][0] == "import os\nimport sys"
    assert expected(f"{TOP}y = ast.x\n", (4, ""))[0][0] == "import ast\nimport os"
    assert expected(f"{TOP}y = os.x\n", (4, "")) == {}, "it is there"
    assert expected(f"{TOP}sys = 1\n", (4, "")) == {}, "it is a name of its own"
    assert expected(f"{TOP}y = len(x.sys)\n", (4, "")) == {}


def test_imports_of_neighbouring_files_are_known() -> None:
    text = f"{TOP}y = Way(c)\n"
    assert expected(text, (4, "")) == {}
    found = expected(text, (4, ""), neighbours=("from ways import Way, Street",))
    assert found[1][0] == "from a import b\nfrom ways import Way"
    standard = expected(f"{TOP}y = Path(c)\n", (4, ""))
    assert standard[0][0] == "import os\nfrom pathlib import Path", "with the standard library"
    joined = expected(text, (4, ""), neighbours=("from a import Way",))
    assert joined[1][0] == "from a import b, Way"
    script = "import a from 'a';\n\nuse(b);\n"
    neighbour = ("import { b, c } from './b';",)
    found = expected(script, (2, ""), neighbours=neighbour, language="javascript")
    assert found[0][0] == "import a from 'a';\nimport { b } from './b';", "relative ones are last"


def test_what_an_import_names_needs_no_import_itself() -> None:
    assert expected(f"{TOP}from pathlib import Path\n", (4, "")) == {}
    assert expected(f"{TOP}import xml.dom\n", (4, "")) == {}


def test_the_order_of_groups_and_of_a_list() -> None:
    text = "from __future__ import annotations\n\nfrom .b import c\n\nx = sys.argv\n"
    assert 0 not in expected(text, (4, "")), "nothing goes above or beside __future__"
    listed = "from ways import Alley, Way\n\nx = Street()\n"
    found = expected(listed, (2, ""), neighbours=("from ways import Street",))
    assert found[0][0] == "from ways import Alley, Street, Way"
    unsorted = "from ways import Way, Alley\n\nx = Street()\n"
    found = expected(unsorted, (2, ""), neighbours=("from ways import Street",))
    assert found[0][0] == "from ways import Way, Alley, Street"


def test_all_unused_names_of_a_line_go_together() -> None:
    expected = partial(edit_pages.expected, rules=("needless_imports",))
    text = "from a import b, c, d\n\nx = d\n"
    assert expected(text, (2, "x = b(c, d)"))[0] == ["from a import d"]
    assert expected("from a import b, c\n\nx = 1\n", (2, "x = b(c)"))[0] == [""]


def test_an_unused_import_is_removed() -> None:
    expected = partial(edit_pages.expected, rules=("needless_imports",))
    text = "import re\nfrom a import b, c\n\nx = c\n"
    assert expected(text, (3, "x = re.sub(c)"))[0] == [""]
    assert expected(text, (3, "x = b(c)"))[1] == ["from a import c"]
    assert expected(f"{text}y = re\n", (3, "x = re.sub(c)")) == {}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("import os.path", ("os",)),
        ("import numpy as np", ("np",)),
        ("from .a import (b, c as d)", ("b", "d")),
        ("from a import *", None),
        ("from a import (", None),
        ("import x, { y } from 'z'", None),
        ("import { x, y as z } from 'a';", ("x", "z")),
        ("const { a } = require('b')", ("a",)),
        ("important = 1", None),
    ],
)
def test_import_lines(line: str, names: tuple[str, ...] | None) -> None:
    found = read_import(line)
    assert (None if found is None else found.names) == names
