"""Rule: names that are no longer imported one by one are written with their module."""

from __future__ import annotations

from functools import partial

import edit_pages

after = partial(edit_pages.after, rules=("qualified_names",))


def test_a_name_that_is_no_longer_imported_is_qualified() -> None:
    text = "import os.path\n\nif exists(a): b.exists(exists)\n"
    old, new = ["from os.path import exists"], ["import os.path"]
    assert after(text, 0, old, new) == {2: ["if os.path.exists(a): b.exists(os.path.exists)"]}
    gone = "import sys\n\nexists(a)\n"
    assert after(gone, 0, old, ["import sys"]) == {}, "nothing else imports it"
