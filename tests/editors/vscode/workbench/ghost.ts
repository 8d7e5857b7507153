/** Ghost text of the real server with a real model: what is shown and inserted is what it answered. */

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { TestContext } from "node:test";
import { model, OUTPUT } from "./places";
import type { Asked, Transcript } from "./transcript";
import { type EditorWindow, until } from "./window";
import { realServer, type Workbench } from "./workbench";

const FILE = "shop.py";
const START = `import os
import sys


class Shop:
    def __init__(self, name, prices):
        self.name = name
        self.prices = prices

    def total(self, names):
        result = 0
        for name in names:
            result += self.prices[name]
        return result

`;
/** A small model may be silent after some of these; it need not be after all. */
const OPENINGS = ["    def __init__(self, name", "    def add(self, na", "        self.na", "import o", "for name in na"];

interface Shown {
  readonly before: string;
  readonly text: string;
}

export async function ghostTests(t: TestContext, workbench: Workbench): Promise<void> {
  const settings = { "fim.backend": "in_process", "fim.model": model(), "fim.threads": 1, "fim.maxTokens": 16, "fim.minConfidence": 0, "fim.prefixChars": 400 };
  const folder = workbench.folder("shop", { [FILE]: START }, realServer(), settings);
  const window = await workbench.open(folder, FILE);
  const { transcript } = folder;

  await t.test("the status bar tells when the model is ready", async () => {
    await until("the ready icon", async () => (await window.icon()) === "sparkle");
  });

  await t.test("Tab inserts exactly what is shown, which is what the server answered", async () => {
    const { before, text } = await suggestion(window, transcript);
    await screenshot(window, "ghost-text.png");
    await window.press("Tab");
    await window.saved(FILE, (now) => now === before + text);
  });

  await t.test("the status bar shows what the last suggestion took", async () => {
    assert.match(await window.statusText(), /^fim \d+ ms$/);
  });

  await t.test("Ctrl+Right takes the next word and leaves the rest", async () => {
    const { before, text } = await suggestion(window, transcript, (text) => /\w\W+\w/.test(text));
    await window.press("Control+ArrowRight");
    const after = await window.saved(FILE, (now) => now !== before);
    const taken = after.slice(before.length);
    assert.ok(taken.length > 0 && taken.length < text.length, `“${taken}” of “${text}”`);
    assert.ok(text.startsWith(taken), `“${taken}” of “${text}”`);
    await window.press("Escape");
  });

  await t.test("typing something else takes the suggestion away and asks anew", async () => {
    const { text } = await suggestion(window, transcript);
    const asked = transcript.asked().length;
    const other = text.startsWith("?") ? "!" : "?";
    await window.type(other);
    await until("a new request", () => transcript.asked().length > asked);
    const last = await answered(transcript);
    const ghost = await window.ghost();
    if (ghost !== "") assert.equal(ghost, last.texts?.[0]);
  });

  await t.test("requests that typing overtakes are cancelled", async () => {
    await window.press("Enter");
    const overtaken = (): boolean => transcript.asked().some(({ isCancelled }) => isCancelled);
    // A key in the few milliseconds that an answer takes: not every try is quick enough.
    for (let tries = 0; tries < OVERTAKING_TRIES && !overtaken(); tries++) {
      const asked = transcript.asked().length;
      await window.type(tries % 8 === 7 ? " + " : "a");
      await until("a request", () => transcript.asked().length > asked);
      await window.type("b");
    }
    await answered(transcript);
    assert.ok(overtaken(), "no request was cancelled");
  });

  await t.test("asking by key sends an explicit request", async () => {
    await window.press("Escape", "Enter");
    await window.command("fim: Suggest at the Cursor");
    await until("an explicit request", () => transcript.asked().some(({ triggerKind }) => triggerKind === 1));
  });

  await t.test("switched off for the language, nothing is asked, and the reason is told", async () => {
    await window.command("fim: Turn Suggestions On or Off for This Language");
    await until("the icon for off", async () => (await window.icon()) === "circle-slash");
    const asked = transcript.asked().length;
    await window.focus(FILE);
    await window.type("\nx = ");
    await window.saved(FILE, (now) => now.endsWith("\nx = "));
    await window.command("fim: Why Was Nothing Shown?");
    const notification = window.notifications.filter({ hasText: "suggestions are off for python" });
    await notification.waitFor();
    assert.equal(transcript.asked().length, asked);
    await window.dismissNotifications();
    await window.command("fim: Turn Suggestions On or Off for This Language");
    await until("the icon for on", async () => (await window.icon()) === "sparkle");
  });

  await t.test("how long it takes from a key to the ghost text", async () => {
    await measure(window, transcript);
  });

  await t.test("the log never carries the text of a document", async () => {
    await window.command("fim: Open the Log");
    await until("the log", async () => (await window.page.locator(".output-view .view-line").count()) > 0);
    const shown = (await window.page.locator(".output-view .view-line").allTextContents()).join("\n");
    assert.ok(!shown.includes("prices"), shown);
  });
  await window.close();
}

/** Type openings until the server has something to say, and check that exactly this is on the screen. */
async function suggestion(
  window: EditorWindow,
  transcript: Transcript,
  suits: (text: string) => boolean = () => true,
): Promise<Shown> {
  for (const opening of [...OPENINGS, ...OPENINGS]) {
    await window.focus(FILE);
    await window.press("Escape", "Enter", "Home");
    await window.type(opening);
    const { texts } = await answered(transcript);
    const text = texts?.[0] ?? "";
    if (text === "" || !suits(text)) continue;
    await until(`the ghost text ${JSON.stringify(text)}`, async () => (await window.ghost()) === text);
    const before = await window.saved(FILE, (now) => now.endsWith(`\n${opening}`));
    return { before, text };
  }
  throw new Error("the model had nothing to say at any of the openings; a better checkpoint is needed");
}

/** The last request, once nothing is on its way any more. */
async function answered(transcript: Transcript): Promise<Asked> {
  let quietSince = Date.now();
  let count = -1;
  return until("the answer to the last request", () => {
    const asked = transcript.asked();
    const last = asked.at(-1);
    if (asked.length !== count || last?.answeredAt === undefined) {
      count = asked.length;
      quietSince = Date.now();
      return false;
    }
    return Date.now() - quietSince > 400 && last;
  });
}

async function screenshot(window: EditorWindow, name: string): Promise<void> {
  mkdirSync(OUTPUT, { recursive: true });
  await window.page.screenshot({ path: path.join(OUTPUT, name) });
}

const OVERTAKING_TRIES = 40;
const ROUNDS = Number(process.env.FIM_LATENCY_ROUNDS ?? "8");

/** Write p50 and p95 from key to picture, and of the server's part of it, as JSON. Asserts no time. */
async function measure(window: EditorWindow, transcript: Transcript): Promise<void> {
  const total: number[] = [];
  const server: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await window.focus(FILE);
    await window.press("Escape", "Enter", "Home");
    const opening = OPENINGS[round % OPENINGS.length] ?? "";
    await window.type(opening.slice(0, -1));
    await answered(transcript);
    await window.press("Escape");
    const asked = transcript.asked().length;
    const took = window.keyToGhost(opening.slice(-1));
    const answer = await until("the request", () => transcript.asked()[asked]).then(() => answered(transcript));
    if ((answer.texts?.length ?? 0) === 0) {
      took.catch(() => undefined); // nothing will be painted; the page is closed at the end
      continue;
    }
    total.push(await took);
    server.push((answer.answeredAt ?? 0) - answer.at);
  }
  assert.ok(total.length > 0, "no suggestion was shown in any round");
  const result = {
    editor: "VS Code 1.100.3 (code-server 4.100.3, headless Chromium)",
    model: path.basename(model()),
    samples: total.length,
    key_to_ghost_ms: percentiles(total),
    server_ms: percentiles(server),
    note: "key_to_ghost includes the editor's own debounce of inline completions (from 50 ms)",
  };
  mkdirSync(OUTPUT, { recursive: true });
  writeFileSync(path.join(OUTPUT, "latency.json"), `${JSON.stringify(result, null, 2)}\n`);
}

function percentiles(values: readonly number[]): { p50: number; p95: number } {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => Math.round(sorted[Math.ceil(share * sorted.length) - 1] ?? NaN);
  return { p50: at(0.5), p95: at(0.95) };
}
