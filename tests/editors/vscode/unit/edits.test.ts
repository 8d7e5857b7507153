import assert from "node:assert/strict";
import { test } from "node:test";
import {
  afterwards,
  changeOf,
  endOf,
  type NextEdit,
  preview,
  readEdits,
} from "../../../../editors/vscode/src/nextEdit/edits";

function edit(from: [number, number], to: [number, number], text: string, uri = "file:///a.py"): NextEdit {
  const [start, end] = [from, to].map(([line, character]) => ({ line, character }));
  if (start === undefined || end === undefined) throw new Error("two positions");
  return { textDocument: { uri, version: 1 }, range: { start, end }, text };
}

/** Reference implementation: apply edits to lines of text. */
function applied(text: string, { range, text: added }: NextEdit): string {
  const lines = text.split("\n");
  const offset = ({ line, character }: { line: number; character: number }): number =>
    lines.slice(0, line).reduce((sum, each) => sum + each.length + 1, 0) + character;
  return text.slice(0, offset(range.start)) + added + text.slice(offset(range.end));
}

void test("a change excludes the common prefix and suffix", () => {
  assert.deepEqual(changeOf("total = price", "total = cost"), {
    keptBefore: 8,
    keptAfter: 0,
    removed: "price",
    added: "cost",
  });
  assert.deepEqual(changeOf("f(a)", "f(a, b)"), { keptBefore: 3, keptAfter: 1, removed: "", added: ", b" });
  assert.deepEqual(changeOf("aa", "a"), { keptBefore: 1, keptAfter: 0, removed: "a", added: "" });
  assert.deepEqual(changeOf("same", "same").added, "");
});

void test("a change never splits a character", () => {
  for (const [before, after] of [
    ["x😀y", "x😁y"],
    ["😀", "😁"],
    ["𐐀", "😀"],
    ["a😀", "a"],
  ] as const) {
    const { keptBefore, keptAfter, removed, added } = changeOf(before, after);
    assert.ok(removed.isWellFormed() && added.isWellFormed(), `${before} to ${after}`);
    assert.equal(before.slice(0, keptBefore) + added + before.slice(before.length - keptAfter), after);
  }
});

void test("later edits move with the text", () => {
  const text = "one two\nthree four\nfive six\n";
  const pairs: { upper: NextEdit; lower: NextEdit }[] = [
    { upper: edit([0, 0], [0, 3], "first"), lower: edit([0, 4], [0, 7], "2") },
    { upper: edit([0, 7], [0, 7], "\nnew\nlines"), lower: edit([1, 6], [1, 10], "4") },
    { upper: edit([0, 4], [2, 5], "joined "), lower: edit([2, 5], [2, 8], "6") },
    { upper: edit([0, 0], [0, 3], "1"), lower: edit([2, 0], [2, 4], "5\n") },
  ];
  for (const { upper, lower } of pairs) {
    // Reference: applied from the bottom up, no edit moves.
    const expected = applied(applied(text, lower), upper);
    for (const [first, second] of [
      [upper, lower],
      [lower, upper],
    ] as const) {
      const [moved] = afterwards(first, [second], 2);
      assert.ok(moved !== undefined);
      assert.equal(applied(applied(text, first), moved), expected);
      assert.equal(moved.textDocument.version, 2);
    }
  }
});

void test("an edit whose text is gone is dropped, one of another document is unchanged", () => {
  const done = edit([0, 0], [1, 0], "");
  assert.deepEqual(afterwards(done, [edit([0, 3], [0, 5], "x")], 2), []);
  const other = edit([0, 3], [0, 5], "x", "file:///b.py");
  assert.deepEqual(afterwards(done, [other], 2), [other]);
});

void test("where inserted text ends", () => {
  assert.deepEqual(endOf(edit([3, 2], [3, 2], "abc")), { line: 3, character: 5 });
  assert.deepEqual(endOf(edit([3, 2], [5, 1], "a\r\nbc")), { line: 4, character: 2 });
});

void test("a preview is one short line", () => {
  assert.equal(preview("a\n  b\r\nc"), "a⏎  b⏎c");
  assert.equal(preview("x".repeat(200), 10), `${"x".repeat(9)}…`);
});

void test("invalid edits are left out", () => {
  const good = edit([0, 0], [0, 1], "x");
  const bad = [{}, null, { ...good, text: 1 }, { ...good, range: {} }, { ...good, textDocument: { uri: 1 } }];
  assert.deepEqual(readEdits({ edits: [...bad, good] }), [good]);
  for (const params of [undefined, null, [], { edits: 3 }]) assert.deepEqual(readEdits(params), []);
});
