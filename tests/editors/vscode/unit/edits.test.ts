import assert from "node:assert/strict";
import { test } from "node:test";
import {
  afterwards,
  endOf,
  endOfLast,
  ghostOf,
  type Hunk,
  type NextEdit,
  preview,
  readEdits,
  spanOf,
} from "../../../../editors/vscode/src/nextEdit/edits";

function hunk(from: [number, number], to: [number, number], text: string): Hunk {
  const [start, end] = [from, to].map(([line, character]) => ({ line, character }));
  if (start === undefined || end === undefined) throw new Error("two positions");
  return { range: { start, end }, text };
}

function editOf(...hunks: Hunk[]): NextEdit {
  return { textDocument: { uri: "file:///a.py", version: 1 }, hunks, sent: {} };
}

function edit(from: [number, number], to: [number, number], text: string, uri = "file:///a.py"): NextEdit {
  return { ...editOf(hunk(from, to, text)), textDocument: { uri, version: 1 } };
}

/** Reference implementation: apply hunks to lines of text, from the bottom up. */
function applied(text: string, { hunks }: NextEdit): string {
  return hunks.reduceRight((now, { range, text: added }) => {
    const lines = now.split("\n");
    const offset = ({ line, character }: { line: number; character: number }): number =>
      lines.slice(0, line).reduce((sum, each) => sum + each.length + 1, 0) + character;
    return now.slice(0, offset(range.start)) + added + now.slice(offset(range.end));
  }, text);
}

void test("later edits move with the text", () => {
  const text = "one two\nthree four\nfive six\n";
  const pairs: { upper: NextEdit; lower: NextEdit }[] = [
    { upper: edit([0, 0], [0, 3], "first"), lower: edit([0, 4], [0, 7], "2") },
    { upper: edit([0, 7], [0, 7], "\nnew\nlines"), lower: edit([1, 6], [1, 10], "4") },
    { upper: edit([0, 4], [2, 5], "joined "), lower: edit([2, 5], [2, 8], "6") },
    { upper: edit([0, 0], [0, 3], "1"), lower: edit([2, 0], [2, 4], "5\n") },
    {
      upper: editOf(hunk([0, 0], [0, 3], "first"), hunk([1, 0], [1, 0], "new\n"), hunk([1, 6], [1, 10], "4")),
      lower: editOf(hunk([2, 0], [2, 4], "5"), hunk([2, 5], [2, 8], "six")),
    },
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
  assert.deepEqual(endOf(hunk([3, 2], [3, 2], "abc")), { line: 3, character: 5 });
  assert.deepEqual(endOf(hunk([3, 2], [5, 1], "a\r\nbc")), { line: 4, character: 2 });
});

void test("the last change ends where the hunks above it have moved it", () => {
  const hunks = [hunk([0, 0], [0, 3], "value"), hunk([1, 0], [1, 0], "a\nb\n"), hunk([1, 5], [1, 8], "total")];
  assert.deepEqual(endOfLast(editOf(...hunks)), { line: 3, character: 10 });
  assert.deepEqual(endOfLast(editOf(hunk([1, 2], [1, 4], ""), hunk([1, 6], [1, 7], "xyz"))), { line: 1, character: 7 });
  assert.deepEqual(endOfLast(edit([3, 2], [5, 1], "")), { line: 3, character: 2 });
  assert.deepEqual(spanOf(editOf(...hunks)), { start: { line: 0, character: 0 }, end: { line: 1, character: 8 } });
});

void test("new text is shown behind the old, whole lines where they will be", () => {
  assert.deepEqual(ghostOf(hunk([1, 2], [1, 5], "new")), { position: { line: 1, character: 5 }, text: "new" });
  assert.deepEqual(ghostOf(hunk([1, 0], [1, 0], "  a\n  b\r\n")), { position: undefined, text: "⏎  a⏎  b" });
  assert.deepEqual(ghostOf(hunk([0, 0], [0, 0], "a\n")), { position: { line: 0, character: 0 }, text: "a⏎" });
  assert.equal(ghostOf(hunk([1, 2], [1, 5], "")), undefined);
});

void test("a preview is one short line", () => {
  assert.equal(preview("a\n  b\r\nc"), "a⏎  b⏎c");
  assert.equal(preview("x".repeat(200), 10), `${"x".repeat(9)}…`);
});

void test("invalid edits are left out, and hunks out of order are not used", () => {
  const [one, other] = [hunk([0, 0], [0, 1], "x"), hunk([1, 0], [1, 1], "y")];
  const good = { textDocument: { uri: "file:///a.py", version: 1 }, ...one };
  const bad = [{}, null, { ...good, text: 1 }, { ...good, range: {} }, { ...good, textDocument: { uri: 1 } }];
  assert.deepEqual(readEdits({ edits: [...bad, good] }), [
    { textDocument: good.textDocument, hunks: [one], sent: good },
  ]);
  for (const params of [undefined, null, [], { edits: 3 }]) assert.deepEqual(readEdits(params), []);
  const hunksOf = (hunks: unknown): readonly Hunk[] | undefined => readEdits({ edits: [{ ...good, hunks }] })[0]?.hunks;
  assert.deepEqual(hunksOf([one, other]), [one, other]);
  for (const hunks of [[], 3, [other, one], [one, one], [one, {}], [hunk([1, 1], [1, 0], "")]]) {
    assert.deepEqual(hunksOf(hunks), [one]);
  }
});
