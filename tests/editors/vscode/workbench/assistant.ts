/** Edits by instruction, and the view for questions: the real server with a scripted model that answers both. */

import assert from "node:assert/strict";
import path from "node:path";
import type { TestContext } from "node:test";
import type { FrameLocator } from "playwright-core";
import { OUTPUT } from "./places";
import { scriptedServer } from "./scripted";
import type { Transcript } from "./transcript";
import { type EditorWindow, until } from "./window";
import type { Workbench } from "./workbench";

const CODE = "x = 1\ny = x\n\n\nprint(x)\nlast = '🎉'; x\n";
const SETTINGS = { "fim.automatic": false, "fim.nextEdits": false };
const EDIT = "fim: Edit Selection with Instruction";
const ASK = "fim: Ask about the Selection or the File";

function assistant(says: string): string[] {
  return ["env", `SCRIPTED_ASSISTANT=${says}`, ...scriptedServer()];
}

export async function assistantTests(t: TestContext, workbench: Workbench): Promise<void> {
  const files = { "a.py": CODE, "b.py": CODE, "keys.env": "x = 'secret'\n" };
  const folder = workbench.folder("assistant", files, assistant("yes"), SETTINGS);
  const { transcript } = folder;
  const window = await workbench.open(folder, "a.py");
  await until("the server to be ready", async () => (await window.icon()) === "sparkle");
  await window.focus("a.py");

  await workbench.step(t, "selected lines are edited by an instruction: one hunk is accepted, the other refused", async () => {
    await window.press("Control+A");
    await instruct(window, "x zed", path.join(OUTPUT, "instruction.png"));
    await underReview(window, 4);
    await window.page.locator(".codelens-decoration a", { hasText: "Accept (Tab)" }).waitFor();
    await window.notifications.first().waitFor({ state: "detached" }); // the progress, not to be answered
    await window.page.screenshot({ path: path.join(OUTPUT, "review.png") });
    assert.match(JSON.stringify(transcript.sent("workspace/executeCommand", "client").at(-1)?.message.params), /"instruction":"x zed"/);
    await window.press("Tab");
    await window.saved("a.py", (text) => text === CODE.replace("x = 1\ny = x", "zed = 1\ny = zed"));
    await underReview(window, 2);
    await window.press("Escape");
    await noReview(window);
    await window.press("Tab"); // is a Tab again
    await window.saved("a.py", (text) => /print\( +x\)/.test(text));
    await window.press("Control+Z", "Control+Z");
    await window.saved("a.py", (text) => text === CODE);
  });

  await workbench.step(t, "all hunks are accepted by a key, and taken back in one step", async () => {
    await window.press("Control+A");
    await instruct(window, "x zed");
    await underReview(window, 4);
    await window.press("Control+Enter");
    await window.saved("a.py", (text) => text === CODE.replaceAll("x", "zed"));
    await noReview(window);
    await window.press("Control+Z");
    await window.saved("a.py", (text) => text === CODE);
  });

  await workbench.step(t, "the line above a hunk says what can be done with it, and does it", async () => {
    await window.press("Control+A");
    await instruct(window, "x zed");
    await underReview(window, 4);
    await lens(window, "Refuse (Esc)");
    await underReview(window, 2);
    await lens(window, "Accept (Tab)");
    await window.saved("a.py", (text) => text === CODE.replace("print(x)", "print(zed)").replace("; x", "; zed"));
    await noReview(window);
    await window.press("Control+Z");
    await window.saved("a.py", (text) => text === CODE);
  });

  await workbench.step(t, "all are refused by a key, and typing refuses them too", async () => {
    for (const key of ["Shift+Escape", "q"]) {
      await window.press("Control+A");
      await instruct(window, "x zed");
      await underReview(window, 4);
      await window.press(key);
      await noReview(window);
    }
    await window.saved("a.py", (text) => text === `q${CODE}`);
    await window.press("Control+Z");
    await window.saved("a.py", (text) => text === CODE);
  });

  await workbench.step(t, "the light bulb offers it for a selection", async () => {
    await window.press("Control+Home", "Shift+ArrowDown", "Control+.");
    const action = window.page.locator(".action-widget .monaco-list-row", { hasText: "Edit with instruction…" });
    await action.waitFor();
    await until("the action to be selected", async () => {
      if (/\bfocused\b/.test((await action.getAttribute("class")) ?? "")) return true;
      await window.press("ArrowDown");
      return false;
    });
    await window.press("Enter");
    await window.input.waitFor();
    assert.match(await window.page.locator(".quick-input-title").innerText(), /Edit a\.py:1$/, "the line that is selected");
    await window.press("Escape");
  });

  await workbench.step(t, "what the model would not change is said", async () => {
    await instruct(window, "nothing here");
    await window.notifications.filter({ hasText: "leave these lines as they are" }).waitFor();
    await window.dismissNotifications();
  });

  await workbench.step(t, "a question about the selection is answered while the answer is being written, and stopped", async () => {
    await window.focus("a.py");
    await window.press("Control+Home", "Shift+ArrowDown", "Shift+ArrowDown");
    await window.command(ASK);
    await asked(window, "wait for me");
    const view = viewOf(window);
    await view.getByText(/^You said: File: a\.py/).waitFor();
    const { params } = transcript.sent("fim/ask", "client").at(-1)?.message ?? {};
    assert.deepEqual(params?.range, { start: { line: 0, character: 0 }, end: { line: 2, character: 0 } });
    assert.equal(await view.locator(".about").innerText(), "a.py:1–2");
    assert.equal(await view.locator("button").count(), 0);
    await window.press("Escape");
    await view.locator(".note").getByText("Stopped.").waitFor();
    await until("the server to be told", () => transcript.sent("$/cancelRequest", "client").length > 0);
  });

  await workbench.step(t, "a code block of an answer becomes a diff of the selection", async () => {
    await asked(window, "block x = 2\\ny = 3");
    const view = viewOf(window);
    await view.locator("pre").getByText("y = 3").waitFor();
    await window.page.screenshot({ path: path.join(OUTPUT, "ask.png") });
    const roles = messages(transcript).map(({ role }) => role);
    assert.deepEqual(roles, ["user", "assistant", "user"], "the conversation goes on");
    await view.getByRole("button", { name: "Show as Diff" }).click();
    await until("the new lines", async () => /2.*3/.test(await window.decorations()));
    await window.page.locator(".codelens-decoration a", { hasText: "Accept (Tab)" }).waitFor();
    await window.page.screenshot({ path: path.join(OUTPUT, "ask-diff.png") });
    await window.press("Control+Enter");
    await window.saved("a.py", (text) => text === CODE.replace("x = 1\ny = x", "x = 2\ny = 3"));
    await noReview(window);
  });

  await workbench.step(t, "without a selection, code goes below the cursor; a new conversation forgets the old one", async () => {
    await window.openFile("b.py");
    await window.page.getByRole("button", { name: "New Conversation" }).click();
    const view = viewOf(window);
    await until("an empty view", async () => (await view.locator("#talk").innerText()) === "");
    await window.focus("b.py");
    await window.press("Control+Home");
    await window.command(ASK);
    await asked(window, "block def f():\\n    return 1");
    await view.locator("pre").getByText("return 1").waitFor();
    assert.deepEqual(messages(transcript).length, 1);
    assert.equal(await view.locator(".about").innerText(), "b.py");
    await view.getByRole("button", { name: "Show as Diff" }).press("Enter");
    await until("a review", async () => (await window.decorations()).includes("⏎def f():⏎    return 1"));
    await lens(window, "Show All Lines");
    await window.page.locator(".monaco-hover", { hasText: "+    return 1" }).waitFor();
    await window.page.screenshot({ path: path.join(OUTPUT, "ask-insert.png") });
    await window.press("Tab");
    await window.saved("b.py", (text) => text === CODE.replace("y = x", "def f():\n    return 1\ny = x"));
  });

  await workbench.step(t, "a secret file is shown to nobody: neither question nor instruction", async () => {
    await window.openFile("keys.env");
    await window.command(ASK);
    await asked(window, "what is this?");
    await viewOf(window).locator(".problem").getByText("keys.env is not shown to the model").waitFor();
    await window.page.screenshot({ path: path.join(OUTPUT, "ask-refused.png") });
    await window.focus("keys.env");
    await window.press("Control+A");
    await instruct(window, "x zed");
    await window.notifications.filter({ hasText: "keys.env is not shown to the model" }).waitFor();
    await window.dismissNotifications();
  });
  await window.close();

  await workbench.step(t, "a model that does not follow instructions says so", async () => {
    const weak = workbench.folder("weak", { "a.py": CODE }, assistant("it is too small; choose a larger one"), SETTINGS);
    const window = await workbench.open(weak, "a.py");
    await until("the server to be ready", async () => (await window.icon()) === "sparkle");
    await window.focus("a.py");
    await window.press("Control+A");
    await instruct(window, "x zed");
    await window.notifications.filter({ hasText: "it is too small; choose a larger one" }).waitFor();
    await window.page.screenshot({ path: path.join(OUTPUT, "refused.png") });
    assert.equal(await window.text(), CODE);
    await noReview(window);
    await window.close();
  });
}

/** Give an instruction for the selected lines. */
async function instruct(window: EditorWindow, instruction: string, picture?: string): Promise<void> {
  await window.command(EDIT);
  await window.page.locator(".quick-input-title", { hasText: "Edit " }).waitFor();
  await window.input.fill(instruction);
  if (picture !== undefined) await window.page.screenshot({ path: picture });
  await window.press("Enter");
}

/** Wait until the review draws so many new names. */
async function underReview(window: EditorWindow, names: number): Promise<void> {
  await until(`a review with ${String(names)} names`, async () => (await window.decorations()).split("zed").length === names + 1);
}

async function noReview(window: EditorWindow): Promise<void> {
  await until("no review", async () => (await window.decorations()) === "");
  await until("nothing above the lines", async () => (await window.page.locator(".codelens-decoration a").count()) === 0);
}

/** Click a command in the line above the next hunk. */
async function lens(window: EditorWindow, title: string): Promise<void> {
  await window.page.locator(".codelens-decoration a", { hasText: title }).click();
}

function viewOf(window: EditorWindow): FrameLocator {
  return window.page.frameLocator("iframe.webview.ready").frameLocator("iframe#active-frame");
}

/** Ask a question in the view, which has the focus. */
async function asked(window: EditorWindow, question: string): Promise<void> {
  const input = viewOf(window).locator("#question");
  await input.waitFor();
  await until("the question field to have the focus", async () => input.evaluate((element) => document.activeElement === element));
  await window.type(question);
  await window.press("Enter");
}

function messages(transcript: Transcript): readonly { readonly role: string }[] {
  return transcript.sent("fim/ask", "client").at(-1)?.message.params?.messages as readonly { readonly role: string }[];
}
