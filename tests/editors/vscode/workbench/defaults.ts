/** VS Code's own defaults: brackets close themselves, lines indent, and the list of words opens while typing. */

import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import { scriptedServer } from "./scripted";
import { type EditorWindow, until } from "./window";
import type { Workbench } from "./workbench";

/** What the other groups turn off (`QUIET` in workbench.ts), as VS Code ships it. */
export const DEFAULTS = {
  "editor.quickSuggestions": { other: "on", comments: "off", strings: "off" },
  "editor.suggestOnTriggerCharacters": true,
  "editor.autoClosingBrackets": "languageDefined",
  "editor.autoClosingQuotes": "languageDefined",
  "editor.autoIndent": "full",
};

export async function defaultsTests(t: TestContext, workbench: Workbench): Promise<void> {
  const folder = workbench.folder("defaults", { "a.py": "value_one = 1\n" }, scriptedServer(), { ...DEFAULTS, "fim.nextEdits": false });
  const { transcript } = folder;
  const window = await workbench.open(folder, "a.py");
  await until("ready", async () => (await window.icon()) === "sparkle");
  await window.focus("a.py");

  await workbench.step(t, "inside a bracket that closed itself, ghost text appears and Tab accepts it", async () => {
    await window.type("print(");
    const [text, ghost] = await shown(window, /\[\d+\]/);
    assert.match(text, /print\(\[\d+\]\)/, "the closing bracket is right of the ghost text");
    await window.press("Tab");
    await window.saved("a.py", (now) => now.endsWith(`print(${ghost})`));
  });

  await workbench.step(t, "on a line that indented itself, ghost text stands at its indentation, and Tab keeps it", async () => {
    await window.press("Escape", "End", "Enter", "Home");
    await window.type("def f():");
    await window.press("Escape", "Enter"); // a list of words would take Enter
    const asked = await until("a request at the indentation", () => transcript.asked().findLast(({ character }) => character === 4));
    const [text, ghost] = await shown(window, /^\[\d+\]$/);
    assert.ok(text.endsWith(`def f():\n    ${ghost}`), text);
    assert.ok((await until("its answer", () => transcript.asked().find(({ id }) => id === asked.id)?.texts)).length > 0);
    await window.press("Tab");
    await window.saved("a.py", (now) => now.endsWith(`def f():\n    ${ghost}`));
    await window.press("Enter");
    await window.type("#say 2");
    await window.showsGhost("2");
    await window.press("Tab");
    await window.saved("a.py", (now) => now.endsWith(`\n    ${ghost}\n    #say 22`));
    await window.press("Enter", "Shift+Tab");
  });

  await workbench.step(t, "with the list of words open, Tab inserts the word; the text is not damaged", async () => {
    await window.press("Escape", "End", "Enter", "Home");
    await window.type("valu");
    await window.page.locator(".suggest-widget.visible .monaco-list-row.focused").waitFor();
    await until("a request with the selected item", () => transcript.asked().some(({ selected }) => selected !== undefined));
    await window.press("Tab");
    await window.saved("a.py", (now) => /\n\s*value_one(\[\d+\])?$/.test(now));
  });

  await workbench.step(t, "snoozed, typing asks nothing; a request by key is still answered", async () => {
    await window.press("Escape", "Enter", "Home");
    await window.command("fim: Snooze…");
    await window.choose("For 5 minutes");
    await until("the icon", async () => (await window.icon()) === "bell-slash");
    assert.match(await window.statusLabel(), /Snoozed until \d/);
    const asked = transcript.asked().length;
    await window.focus("a.py");
    await window.type("#say hello");
    await window.saved("a.py", (now) => now.endsWith("#say hello"));
    assert.equal(await window.ghost(), "");
    assert.equal(transcript.asked().length, asked, "nothing was asked");
    await window.press("Alt+\\");
    await window.showsGhost("hello");
    await window.press("Escape");
    await window.menu("Snoozing…");
    await window.choose("Wake up now");
    await until("the icon", async () => (await window.icon()) === "sparkle");
  });

  await workbench.step(t, "alternatives stand side by side, and a number key accepts one", async () => {
    await window.focus("a.py");
    await window.press("Escape", "Enter", "Home");
    await window.insert("#say value");
    await window.showsGhost("value");
    await window.command("fim: Show Alternatives Side by Side");
    const panel = window.page.frameLocator("iframe.webview.ready").frameLocator("iframe#active-frame");
    await panel.locator("button").nth(2).waitFor();
    assert.deepEqual(await panel.locator("mark").allTextContents(), ["value", "value 2", "value 3"]);
    await panel.locator("button").first().press("2");
    await window.saved("a.py", (now) => now.endsWith("#say valuevalue 2"));
  });

  await workbench.step(t, "what was accepted is counted, and the menu shows it", async () => {
    await window.openMenu();
    const row = window.page.locator(".quick-input-list .monaco-list-row", { hasText: "Accepted today" });
    assert.match(await row.innerText(), /[1-9]\d* suggestions?, [1-9]\d* characters/);
    await window.press("Escape");
  });

  await workbench.step(t, "the tour's sample opens with the cursor where text is missing", async () => {
    await window.command("fim: Take the Tour");
    await window.shows("the sample", (text) => text.includes("class Account"));
    await until("a request in it", () => transcript.asked().some(({ character }) => character === "            raise ".length));
    await window.press("Control+K", "Control+W");
  });
}

/** The editor's text and its ghost text, once the latter matches. */
async function shown(window: EditorWindow, pattern: RegExp): Promise<readonly [string, string]> {
  const ghost = await until("ghost text", async () => {
    const text = await window.ghost();
    return pattern.test(text) ? text : undefined;
  });
  return [await window.text(), ghost];
}
