import assert from "node:assert/strict";
import { test } from "node:test";
import { piecesOf, textFor } from "../../../../editors/vscode/src/ask/pieces";

void test("an answer is text and code", () => {
  const answer = "Use this:\n\n```python\ndef f():\n\n    pass\n```\nor\n```\nx = 1\n```\n";
  assert.deepEqual(piecesOf(answer), [
    { code: false, text: "Use this:" },
    { code: true, text: "def f():\n\n    pass" },
    { code: false, text: "or" },
    { code: true, text: "x = 1" },
  ]);
  assert.deepEqual(piecesOf(answer.replaceAll("\n", "\r\n")), piecesOf(answer));
});

void test("an unfinished block is code, and nothing is nothing", () => {
  assert.deepEqual(piecesOf("```js\nlet x"), [{ code: true, text: "let x" }]);
  assert.deepEqual(piecesOf("```js"), []);
  assert.deepEqual(piecesOf(""), []);
  assert.deepEqual(piecesOf("plain `x`"), [{ code: false, text: "plain `x`" }]);
});

void test("only the current question's answer is heard", () => {
  assert.equal(textFor(3, { token: 3, text: "yes" }), "yes");
  for (const params of [null, undefined, "x", {}, { token: 2, text: "no" }, { token: 3 }, { token: 3, text: 1 }]) {
    assert.equal(textFor(3, params), undefined);
  }
});
