/** Ghost text, key by key: the real server, with a backend whose words a test can choose (tests/server/scripted.py). */

import assert from "node:assert/strict";
import path from "node:path";
import type { TestContext } from "node:test";
import { python, ROOT } from "./places";
import { type EditorWindow, until } from "./window";
import type { Workbench } from "./workbench";

const SETTINGS = { "fim.nextEdits": false };

export function scriptedServer(): string[] {
  return [python(), path.join(ROOT, "tests/server/scripted.py")];
}

export async function scriptedTests(t: TestContext, workbench: Workbench): Promise<void> {
  const files = { "a.py": "x = 1\n", "words.py": "value_one = 1\n" };
  const folder = workbench.folder("scripted", files, scriptedServer(), SETTINGS);
  const { transcript } = folder;
  const window = await workbench.open(folder, "a.py");
  await ready(window);

  await workbench.step(t, "Ctrl+Alt+Right takes the next line and leaves the rest", async () => {
    const before = await asks(window, "#say one two\\n  three\\nfour", "one two\n  three\nfour");
    for (const sofar of ["one two", "one two\n  three", "one two\n  three\nfour"]) {
      await window.press("Control+Alt+ArrowRight");
      await window.saved("a.py", (text) => text.trimEnd() === before + sofar);
    }
  });

  await workbench.step(t, "Alt+] and Alt+[ go through the alternatives, and the shown one is accepted", async () => {
    const before = await asks(window, "#say value", "value");
    await window.press("Alt+]");
    await window.showsGhost("value 2");
    await window.press("Alt+]");
    await window.showsGhost("value 3");
    await window.press("Alt+[");
    await window.showsGhost("value 2");
    assert.ok(transcript.asked().some(({ triggerKind }) => triggerKind === 1), "asked for explicitly");
    await window.press("Tab");
    await window.saved("a.py", (text) => text === `${before}value 2`);
  });

  await workbench.step(t, "typing through a suggestion leaves the rest of it", async () => {
    const before = await asks(window, "#say return value", "return value");
    await window.type("re");
    await window.showsGhost("turn value");
    await window.press("Tab");
    await window.saved("a.py", (text) => text === `${before}return value`);
  });

  await workbench.step(t, "a request that typing overtakes is cancelled", async () => {
    await window.press("Escape", "Enter");
    await window.type("#wait");
    const column = "#wait".length;
    const waiting = await until("a request", () => transcript.asked().findLast(({ character }) => character === column));
    assert.equal(waiting.answeredAt, undefined);
    await window.type("x");
    await until("its end", () => transcript.asked().find(({ id }) => id === waiting.id)?.isCancelled);
  });

  await workbench.step(t, "the item that is selected in IntelliSense's list is told", async () => {
    await window.press("Escape", "Enter");
    await window.type("valu");
    await window.press("Control+Space");
    await window.page.locator(".suggest-widget.visible .monaco-list-row.focused").waitFor();
    await until("a request with the selected item", () => transcript.asked().some(({ selected }) => selected !== undefined));
    await window.press("Escape", "Escape");
  });

  await workbench.step(t, "the menu says what is going on, switches off and on, and restarts", async () => {
    const menu = async (): Promise<void> => {
      await window.status.locator("a").first().click();
      await window.page.locator(".quick-input-list .monaco-list-row").first().waitFor();
    };
    await menu();
    const labels = await window.listed();
    for (const part of ["Turn suggestions off", "Turn off for python", "Why was nothing shown?", "Choose a model…", "Restart the server", "Open the log"]) {
      assert.ok(labels.some((label) => label.includes(part)), `${part} is not in ${labels.join(", ")}`);
    }
    await window.page.keyboard.type("Turn suggestions off");
    await window.pick("Turn suggestions off");
    await until("the icon for off", async () => (await window.icon()) === "circle-slash");
    await menu();
    await window.page.keyboard.type("Turn suggestions on");
    await window.pick("Turn suggestions on");
    await until("the icon for on", async () => (await window.icon()) === "sparkle");
    const starts = transcript.sent("initialize", "client").length;
    await menu();
    await window.page.keyboard.type("Restart");
    await window.pick("Restart the server");
    await until("a new start", () => transcript.sent("initialize", "client").length === starts + 1);
    await ready(window);
    await asks(window, "#say again", "again");
  });

  await workbench.step(t, "the walkthrough is there", async () => {
    await window.command("Welcome: Open Walkthrough...");
    await window.page.getByPlaceholder("Select a walkthrough").fill("Complete code with");
    await window.pick("Complete code with a model on your machine");
    const page = window.page.locator(".gettingStartedContainer");
    await page.getByText("Find or install the server").first().waitFor();
    await page.getByText("Accept a suggestion").first().waitFor();
  });
  await window.close();

  await workbench.step(t, "several folders have one server, which knows all of them", async () => {
    const one = workbench.folder("one", { "a.py": "" }, scriptedServer(), {});
    const two = workbench.folder("two", { "b.py": "" }, [], { "fim.server.path": undefined });
    const workspace = workbench.severalFolders("both", [one, two], { ...SETTINGS, "fim.server.path": `${one.path}-server` });
    let windows = 1;
    let window = await workbench.open(two, "b.py", workspace);
    while (!(await hasFolder(window, "two"))) {
      await window.close();
      assert.ok(++windows <= 4, "VS Code opens the workspace without its folders");
      window = await workbench.open(two, "b.py", workspace);
    }
    await ready(window, "b.py");
    await window.type("#say value");
    await window.showsGhost("value");
    const starts = one.transcript.sent("initialize", "client");
    assert.equal(starts.length, windows, "one server a window");
    const { workspaceFolders } = starts.at(-1)?.message.params as { workspaceFolders: { name: string }[] };
    assert.deepEqual(workspaceFolders.map(({ name }) => name), ["one", "two"]);
    await window.close();
  });
}

/** A workspace that is opened before its connection stands has no folders in a browser, until it is opened again. */
async function hasFolder(window: EditorWindow, name: string): Promise<boolean> {
  const tree = window.page.locator(".explorer-folders-view .monaco-list-row", { hasText: name }).first();
  const none = window.page.locator(".explorer-viewlet", { hasText: "You have not yet added a folder" }).first();
  await tree.or(none).waitFor();
  return tree.isVisible();
}

async function ready(window: EditorWindow, file = "a.py"): Promise<void> {
  await until("the server to be ready", async () => (await window.icon()) === "sparkle");
  await window.focus(file);
}

/** Write a line that asks for an answer, and wait until it is shown; the whole text before the answer. */
async function asks(window: EditorWindow, line: string, answer: string): Promise<string> {
  await window.focus("a.py");
  await window.press("Escape", "Enter", "Home");
  await window.insert(line);
  await window.showsGhost(answer);
  return window.saved("a.py", (text) => text.endsWith(`\n${line}`));
}
