/** Ghost text of the real server with a real model: shows and inserts exactly the server's answer.
*/

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import path from "node:path";
import type { TestContext } from "node:test";
import { OUTPUT } from "./places";
import { FILE, measure, OPENINGS, openShop, settled } from "./shop";
import type { Transcript } from "./transcript";
import { type EditorWindow, until } from "./window";
import type { Workbench } from "./workbench";

interface Shown {
  readonly opening: string;
  readonly before: string;
  readonly text: string;
}

export async function ghostTests(t: TestContext, workbench: Workbench): Promise<void> {
  const { window, folder } = await openShop(workbench, "shop");
  const { transcript } = folder;

  await workbench.step(t, "the status bar tells when the model is ready", async () => {
    await until("the ready icon", async () => (await window.icon()) === "sparkle");
  });

  await workbench.step(t, "Tab inserts exactly what is shown, which is what the server answered", async () => {
    const { before, text } = await suggestion(window, transcript);
    await screenshot(window, "ghost-text.png");
    await window.press("Tab");
    await window.saved(FILE, (now) => now === before + text);
  });

  await workbench.step(t, "the status bar shows what the last suggestion took", async () => {
    assert.match(await window.statusText(), /^fim \d+ ms$/);
  });

  await workbench.step(t, "Ctrl+Right takes the next word and leaves the rest", async () => {
    const { before, text } = await suggestion(window, transcript, (text) => /\w\W+\w/.test(text));
    await window.press("Control+ArrowRight");
    const after = await window.saved(FILE, (now) => now !== before);
    const taken = after.slice(before.length);
    assert.ok(taken.length > 0 && taken.length < text.length, `“${taken}” of “${text}”`);
    assert.ok(text.startsWith(taken), `“${taken}” of “${text}”`);
    await window.press("Escape");
  });

  await workbench.step(t, "typing something else takes the suggestion away and asks anew", async () => {
    const { opening, text } = await suggestion(window, transcript);
    const asked = transcript.asked().length;
    await window.type(text.startsWith("?") ? "!" : "?");
    await settled(window, transcript, asked, opening.length + 1);
  });

  await workbench.step(t, "switched off for the language, nothing is asked, and the reason is told", async () => {
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

  await workbench.step(t, "how long it takes from a key to the ghost text", async () => {
    await measure(window, transcript);
  });

  await workbench.step(t, "the log says what became of a request, and never carries the text of a document", async () => {
    await window.command("Developer: Set Log Level...");
    await window.choose("fim-server");
    await window.choose("Debug");
    await suggestion(window, transcript);
    await window.menu("Open the log");
    const lines = window.page.locator(".output-view .view-line");
    const shown = async (): Promise<string> => (await lines.allTextContents()).join("\n");
    await until("what became of the request", async () => /inline\s+completion:/.test(await shown()));
    const logs = workbench.logs("fim-server").join("\n");
    assert.match(logs, /inline completion: /);
    assert.ok(!logs.includes("prices"), logs);
  });
  await window.close();
}

/** Type openings until the server suggests something, and check that exactly this is shown. */
async function suggestion(
  window: EditorWindow,
  transcript: Transcript,
  suits: (text: string) => boolean = () => true,
): Promise<Shown> {
  for (const opening of [...OPENINGS, ...OPENINGS]) {
    await window.focus(FILE);
    await window.press("Escape", "Enter", "Home");
    const asked = transcript.asked().length;
    await window.type(opening);
    const text = await settled(window, transcript, asked, opening.length);
    if (text === "" || !suits(text)) continue;
    const before = await window.saved(FILE, (now) => now.endsWith(`\n${opening}`));
    return { opening, before, text };
  }
  throw new Error("the model had nothing to say at any of the openings; a better checkpoint is needed");
}

async function screenshot(window: EditorWindow, name: string): Promise<void> {
  mkdirSync(OUTPUT, { recursive: true });
  await window.page.screenshot({ path: path.join(OUTPUT, name) });
}
