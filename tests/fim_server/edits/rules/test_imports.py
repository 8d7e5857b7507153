"""Rule: imports that an edit made necessary or unused."""

from __future__ import annotations

from functools import partial

import edit_pages
import pytest

from fim_server.edits.rules.import_lines import read_import
from fim_server.edits.rules.page import MAX_NAMED_LINES, REACH

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


def test_the_name_of_a_module_is_no_entry_of_the_list() -> None:
    expected = partial(edit_pages.expected, rules=("needless_imports",))
    text = "from datetime import datetime, timedelta\n\nx = timedelta(1)\n"
    found = expected(text, (2, "x = datetime(timedelta(1))"))
    assert found[0] == ["from datetime import timedelta"]
    text = "from b import (a, b, c)\n\nx = a\n"
    assert expected(text, (2, "x = a(b, c)"))[0] == ["from b import (a)"], "the last ones"
    assert expected(text, (2, "x = a(b)"))[0] == ["from b import (a)"], "c was unused before"


def test_a_name_is_added_to_the_list_and_not_to_the_module() -> None:
    text = "from datetime import datetime  # datetime\n\nx = date(1)\n"
    added = "from datetime import date, datetime  # datetime"
    neighbours = ("from datetime import date",)
    assert expected(text, (2, ""), neighbours=neighbours)[0][0] == added
    later = "from datetime import datetime  # datetime\n\nx = time(1)\n"
    found = expected(later, (2, ""), neighbours=("from datetime import time",))
    assert found[0][0] == "from datetime import datetime, time  # datetime"


def test_a_name_of_a_script_is_imported_alone_whatever_its_module() -> None:
    line = "import {a, b} from './a';"
    found = read_import(line)
    assert found is not None
    assert found.alone == ("import { a } from './a';", "import { b } from './a';")


def test_the_first_line_of_an_import_of_several_lines_is_left_alone() -> None:
    needless = partial(edit_pages.expected, rules=("needless_imports",))
    text = "import ast\nfrom b import (c,\n    d)\nimport zlib\n\nx = d\n"
    assert needless(text, (5, "x = c(d)")) == {}
    found = expected(f"{text}y = e()\n", (6, ""), neighbours=("from c import e",))
    assert found == {3: ["import zlib\nfrom c import e"]}, "and nothing is put into it"
    assert read_import("from b import (c, d)") is not None
    assert read_import("from b import(c)") is not None


def test_a_name_imported_as_itself_is_exported() -> None:
    needless = partial(edit_pages.expected, rules=("needless_imports",))
    assert needless("from a import b as b\n\nx = 1\n", (2, "x = b()")) == {}
    assert needless("from a import b as c\n\nx = 1\n", (2, "x = c()"))[0] == [""]


def test_an_import_stays_where_its_uses_were_not_all_read() -> None:
    expected = partial(edit_pages.expected, rules=("needless_imports",))
    text = "import io\n\nx = 1\n"
    removed = (2, "x = io.open(1)")
    assert expected(text, removed)[0] == [""]
    assert expected(f"{text}{'ratio = 1' * 500}\n", removed)[0] == [""], "a part of a longer name"
    many = "ratio = ration\n" * (MAX_NAMED_LINES + 1)
    assert expected(f"{text}{many}", removed)[0] == [""]
    assert expected(f"{text}{many}y = io.x\n", removed) == {}, "used on a line among them"
    assert expected(f"{text}{'y = io.x; ' * MAX_NAMED_LINES}\n", removed) == {}, "a long line"
    uses = "y = io.x\n" * (MAX_NAMED_LINES + 1)
    assert expected(f"{text}{uses}", removed) == {}, "on too many lines to read them"
    far = "pass\n" * (REACH + 1)
    assert expected(f"{text}{far}", removed)[0] == [""]
    assert expected(f"{text}{far}y = io.x\n", removed) == {}, "too far away to be read"


@pytest.mark.parametrize(
    "use",
    [
        '__all__ = ["b"]',
        '__all__ = [\n    "b",\n]',
        '__all__ += ("b",)',
        '__all__.extend(["b"])',
        'y: "b" = 2',
        'def f(x: list["b | None"]) -> None: ...',
        'def f(x) -> "b": ...',
        'y = cast("b", x)',
    ],
)
def test_a_name_in_quotes_is_used_where_it_is_exported_or_a_type(use: str) -> None:
    expected = partial(edit_pages.expected, rules=("needless_imports",))
    text = "from a import b\n\nx = 1\n"
    assert expected(f"{text}{use}\n", (2, "x = b()")) == {}
    assert expected(f'{text}y = f("b", z["b"])  # "b"\n', (2, "x = b()"))[0] == [""]


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
