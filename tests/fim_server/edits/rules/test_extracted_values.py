"""Rule: a name in place of its value."""

from __future__ import annotations

from functools import partial

import edit_pages

after = partial(edit_pages.after, rules=("extracted_values",))


def test_a_name_takes_the_place_of_its_value_below() -> None:
    text = (
        'def f(data):\n    table = data["project"]\n    a = data["project"].get("a")\n'
        '    b = f(x=data["project"], y=data["projects"])\n\n\ndef g(data):\n'
        '    return data["project"]\n'
    )
    found = after(text, 1, [], ['    table = data["project"]'])
    lines = '    a = table.get("a")\n    b = f(x=table, y=data["projects"])'
    assert found == {2: [lines]}, "not in another function"


def test_a_declaration_in_another_language() -> None:
    text = "const schema = z.string();\nz.string().parse(a);\nmaz.string();\n"
    new = ["const schema = z.string();"]
    assert after(text, 0, [], new, language="typescript") == {1: ["schema.parse(a);"]}


def test_a_value_that_is_given_another_name_is_another_value() -> None:
    text = "old = get(a)[0]\nnow = get(a)[0]\nnow = 2\nuse(get(a)[0])\n"
    found = after(text, 0, [], ["old = get(a)[0]"])
    assert found == {1: ["now = old"], 3: ["use(old)"]}
    assert after("v = get(a)[0]\nv = get(a)[0]\nget(a)[0]\n", 0, [], ["v = get(a)[0]"]) == {}
