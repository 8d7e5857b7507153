import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { isEnabled, toggled } from "../../../../editors/vscode/src/enablement";
import { answerIn, readLine } from "../../../../editors/vscode/src/serverLog";
import { explain, type ServerState, stateTold, statusText, type View } from "../../../../editors/vscode/src/state";

const VIEW: View = {
  server: { kind: "ready" },
  enabled: true,
  language: "python",
  asking: false,
  model: "default",
  mode: "ar",
  latency: undefined,
  last: { kind: "none" },
};

void test("a line of the server's log has a level; anything else is a warning", () => {
  assert.deepEqual(readLine("2026-01-02 03:04:05,678 DEBUG fim_server.x: said"), {
    level: "debug",
    text: "fim_server.x: said",
  });
  assert.equal(readLine("2026-01-02 03:04:05,678 CRITICAL asyncio: gone").level, "error");
  assert.deepEqual(readLine("Traceback (most recent call last):"), {
    level: "warning",
    text: "Traceback (most recent call last):",
  });
});

void test("an answer is parsed from the log, with its silence reason or its cost", () => {
  assert.deepEqual(answerIn("a.b: inline completion: nothing (stale), 3.1 ms"), { silence: "stale", ms: 3.1 });
  assert.deepEqual(answerIn("a.b: inline completion: nothing (excluded: .env (a secret)), 0.1 ms"), {
    silence: "excluded",
    detail: ".env (a secret)",
    ms: 0.1,
  });
  assert.deepEqual(answerIn("a.b: inline completion: 1 items, 45.2 ms (ar, 4 forwards, 8 tokens)"), {
    ms: 45.2,
    cost: { mode: "ar", forwards: 4, tokens: 8 },
  });
  assert.deepEqual(answerIn("a.b: inline completion: 2 items, 5.0 ms"), { ms: 5 });
  assert.equal(answerIn("a.b: the model failed on a request"), undefined);
});

void test("every silence reason of the server has an explanation", () => {
  const source = readFileSync(path.join(process.env.FIM_ROOT ?? "", "fim_server/completion/silence.py"), "utf8");
  const reasons = [...source.matchAll(/^ {4}[A-Z_]+ = "(\w+)"$/gm)].map((match) => match[1] ?? "");
  assert.ok(reasons.length >= 10, "silence.py was not read");
  for (const silence of reasons) {
    const text = explain({ ...VIEW, last: { kind: "answered", answer: { silence, ms: 1 } } });
    assert.ok(!text.includes("“"), `${silence} has no words: ${text}`);
  }
});

void test("an unknown reason is named", () => {
  const view: View = { ...VIEW, last: { kind: "answered", answer: { silence: "moon", ms: 2 } } };
  assert.equal(explain(view), "Nothing was shown because of “moon”. (2 ms)");
});

void test("the server's state, in terms that other clients also know", () => {
  const told = (busy: boolean, message: string, kind = "Normal"): unknown => stateTold({ busy, message, kind });
  assert.deepEqual(told(true, "Loading the model (50 %)"), { kind: "loading", what: "Loading the model", percent: 50 });
  assert.deepEqual(told(true, "Waking"), { kind: "loading", what: "Waking", percent: 0 });
  assert.deepEqual(told(false, ""), { kind: "ready" });
  assert.deepEqual(told(false, "no disk", "Error"), { kind: "failed", problem: "no disk" });
  assert.deepEqual(told(false, "failed", "Warning"), { kind: "troubled", problem: "failed" });
  assert.deepEqual(told(false, "excluded: .env", "Inactive"), { kind: "inactive", reason: "excluded: .env" });
  for (const nothing of [told(true, ""), stateTold(null), stateTold({}), stateTold("x")]) {
    assert.equal(nothing, undefined);
  }
});

void test("the text of the status bar", () => {
  const text = (change: Partial<View>): string => statusText({ ...VIEW, ...change }).text;
  assert.equal(text({}), "$(sparkle) fim");
  assert.equal(text({ latency: 44.6 }), "$(sparkle) fim 45 ms");
  assert.equal(text({ latency: 44.6, asking: true }), "$(loading~spin) fim 45 ms");
  assert.equal(text({ enabled: false }), "$(circle-slash) fim");
  assert.equal(text({ server: { kind: "loading", what: "x", percent: 50 } }), "$(sync~spin) fim 50 %");
  const bad: ServerState[] = [
    { kind: "missing", remedy: "install it" },
    { kind: "failed", problem: "broken" },
  ];
  for (const server of bad) assert.equal(statusText({ ...VIEW, server }).severity, "error");
});

void test("a problem of the server takes precedence over an old answer", () => {
  const server: ServerState = { kind: "failed", problem: "The disk is full" };
  assert.equal(explain({ ...VIEW, server }), "Nothing was shown: The disk is full.");
});

void test("if suggestions are off, that is the reason, whatever the last answer was", () => {
  const view: View = { ...VIEW, enabled: false, last: { kind: "answered", answer: { silence: "stale", ms: 1 } } };
  assert.equal(explain(view), "Nothing was shown: suggestions are off for python (setting fim.enable).");
});

void test("suggestions are toggled per language, and for all others", () => {
  assert.equal(isEnabled({}, "python"), true);
  assert.equal(isEnabled({ "*": false, python: true }, "python"), true);
  assert.equal(isEnabled({ "*": false }, "python"), false);
  assert.deepEqual(toggled({ "*": false }, "python"), { "*": false, python: true });
  assert.deepEqual(toggled({ "*": true }, "*"), { "*": false });
  assert.deepEqual(toggled({ "*": true, python: false }, "python"), { "*": true }, "follows the others again");
  const defaults = { "*": true, scminput: false };
  assert.deepEqual(toggled(defaults, "scminput", defaults), { "*": true, scminput: true }, "its default is another");
});
