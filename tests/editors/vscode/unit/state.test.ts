import assert from "node:assert/strict";
import { test } from "node:test";
import { buildOptions } from "../../../../editors/vscode/src/environment";
import { isEnabled, toggled } from "../../../../editors/vscode/src/enablement";
import { answerIn, readLine } from "../../../../editors/vscode/src/serverLog";
import { MINUTE_MS, Snooze } from "../../../../editors/vscode/src/snooze";
import { countsIn, inWords } from "../../../../editors/vscode/src/statistics";
import { adaptedTold, explain, type ServerState, stateTold, statusText, type View, whyTold } from "../../../../editors/vscode/src/state";

const VIEW: View = {
  server: { kind: "ready" },
  enabled: true,
  language: "python",
  asking: false,
  model: "default",
  mode: "ar",
  latency: undefined,
  last: { kind: "none" },
  why: "",
  adapted: false,
  snoozed: undefined,
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

void test("an empty answer is explained in the server's words", () => {
  const last = { kind: "answered", answer: { silence: "blank", ms: 1.4 } } as const;
  const why = whyTold({ busy: false, kind: "Normal", message: "", why: "the model has nothing to add" });
  assert.equal(explain({ ...VIEW, last, why: why ?? "" }), "Nothing was shown: the model has nothing to add (1 ms).");
  assert.equal(explain({ ...VIEW, last }), "Nothing was shown: blank (1 ms).", "an older server");
  for (const nothing of [null, {}, "x", { why: 1 }]) assert.equal(whyTold(nothing), undefined);
});

void test("an answer with what was learned from the workspace is told", () => {
  assert.ok(adaptedTold({ busy: false, kind: "Normal", message: "", adapter: true }));
  for (const nothing of [null, {}, "x", { adapter: 1 }]) assert.ok(!adaptedTold(nothing));
});

void test("while snoozed, the status says so, and a broken server takes precedence", () => {
  const snoozed = { ...VIEW, snoozed: "snoozed until 14:05" };
  assert.equal(statusText(snoozed).text, "$(bell-slash) fim");
  assert.equal(statusText(snoozed).summary, "Snoozed until 14:05");
  assert.match(explain(snoozed), /snoozed until 14:05/);
  assert.equal(statusText({ ...snoozed, server: { kind: "failed", problem: "x" } }).severity, "error");
});

void test("snoozing ends by itself after its time, files and languages when woken", () => {
  let changes = 0;
  const snooze = new Snooze(() => changes++);
  const now = Date.now();
  assert.equal(snooze.reason("a", "python", now), undefined);
  snooze.forMinutes(5, now);
  assert.match(snooze.reason("a", "python", now + 5 * MINUTE_MS - 1) ?? "", /snoozed until/);
  assert.equal(snooze.reason("a", "python", now + 5 * MINUTE_MS), undefined);
  snooze.wake();
  snooze.file("a");
  snooze.language("go");
  assert.equal(snooze.reason("a", "python"), "snoozed in this file");
  assert.equal(snooze.reason("b", "go"), "snoozed for go");
  assert.equal(snooze.reason("b", "python"), undefined);
  snooze.wake();
  assert.equal(snooze.reason("a", "go"), undefined);
  assert.equal(changes, 5);
  snooze.dispose();
});

void test("counts in words", () => {
  const answer = { today: { accepted: 1, characters: 12 }, total: { accepted: 3, partly_accepted: 2, characters: 1, edits_accepted: 4 } };
  const [today, total] = [countsIn(answer, "today"), countsIn(answer, "total")];
  assert.ok(today !== undefined && total !== undefined);
  assert.equal(inWords(today), "1 suggestion, 12 characters");
  assert.equal(inWords(total), "3 suggestions, 2 in part, 1 character, 4 edits");
  for (const other of [undefined, null, {}, "x"]) assert.equal(countsIn(other, "today"), undefined);
});

void test("only Linux needs another index for torch's CPU build", () => {
  assert.deepEqual(buildOptions("cuda", "linux"), []);
  assert.deepEqual(buildOptions("cpu", "darwin"), []);
  assert.equal(buildOptions("cpu", "linux")[0], "--extra-index-url");
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
