/** Ghost text, key by key: the real server with a scripted backend (tests/support/scripted.py). */

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import type { TestContext } from "node:test";
import { python, ROOT } from "./places";
import type { Transcript } from "./transcript";
import { type EditorWindow, until } from "./window";
import type { Workbench } from "./workbench";

const SETTINGS = { "fim.nextEdits": false };
/** Maximum attempts to open a workspace of several folders: see `hasFolder`. */
const WINDOWS = 4;

export function scriptedServer(): string[] {
  return [python(), path.join(ROOT, "tests/support/scripted.py")];
}

export async function scriptedTests(t: TestContext, workbench: Workbench): Promise<void> {
  const files = { "a.py": "x = 1\n", "words.py": "value_one = 1\n" };
  const loaded = path.join(workbench.home, "scripted-loaded");
  const command = ["env", `SCRIPTED_LOADS_UNTIL=${loaded}`, ...scriptedServer()];
  const folder = workbench.folder("scripted", files, command, SETTINGS);
  const { transcript } = folder;
  const window = await workbench.open(folder, "a.py");

  await workbench.step(t, "the status bar shows how far the model is loaded, and that it is ready", async () => {
    await until("the share", async () => (await window.statusText()) === "fim 50 %");
    assert.equal(await window.icon(), "sync");
    writeFileSync(loaded, "");
    await ready(window);
    assert.equal(await window.statusText(), "fim");
  });

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
    const asked = transcript.asked().length;
    await window.type("#wait");
    const column = "#wait".length;
    const waiting = await until("a request", () => transcript.asked().slice(asked).find(({ character }) => character === column));
    assert.equal(waiting.answeredAt, undefined);
    await window.type("x");
    await until("its end", () => transcript.asked().find(({ id }) => id === waiting.id)?.isCancelled);
  });

  await workbench.step(t, "asking by key sends an explicit request", async () => {
    await window.press("Escape", "Enter");
    await window.insert("#say here");
    await window.showsGhost("here");
    await window.press("Escape");
    await until("the ghost text to go", async () => (await window.ghost()) === "");
    const asked = transcript.asked().length;
    await window.press("Alt+\\");
    await window.showsGhost("here");
    assert.ok(transcript.asked().slice(asked).some(({ triggerKind }) => triggerKind === 1), "asked for explicitly");
  });

  await workbench.step(t, "with editor.inlineSuggest.enabled off, nothing is asked", async () => {
    const lineNumbers = window.page.locator(".editor-instance .margin .line-numbers");
    const setting = async (enabled: boolean): Promise<void> => {
      // Line numbers show that the editor has read its settings.
      folder.set({ "editor.inlineSuggest.enabled": enabled, "editor.lineNumbers": enabled ? "on" : "off" });
      await until("the settings to be read", async () => (await lineNumbers.count()) > 0 === enabled);
    };
    await setting(false);
    await window.focus("a.py");
    await window.press("Escape", "Enter", "Home");
    const asked = transcript.asked().length;
    await window.type("#say nothing");
    await window.saved("a.py", (text) => text.endsWith("\n#say nothing"));
    await setting(true);
    await asks(window, "#say something", "something");
    const columns = transcript.asked().slice(asked).map(({ character }) => character);
    assert.ok(columns.every((column) => column === 0 || column === "#say something".length), columns.join(", "));
  });

  await workbench.step(t, "an item takes the place of the bracket that the editor has closed", async () => {
    const before = await asksInside(window, "#say self, x):", ")");
    await window.shows("the bracket once", (text) => text.includes(`${before}self, x):\n`) || text.endsWith(`${before}self, x):`));
    await window.press("Tab");
    await window.saved("a.py", (text) => text.trimEnd().endsWith(`\n${before}self, x):`));
  });

  await workbench.step(t, "braces become a block of several lines", async () => {
    const before = await asksInside(window, "#say \\n  b\\n  {", "}");
    await window.press("Tab");
    await window.saved("a.py", (text) => text.trimEnd().endsWith(`\n${before}\n  b\n}`));
    await window.press("Control+End");
  });

  await workbench.step(t, "the item that is selected in IntelliSense's list is told", async () => {
    await window.press("Escape", "Enter");
    await window.type("valu");
    await window.press("Control+Space");
    await window.page.locator(".suggest-widget.visible .monaco-list-row.focused").waitFor();
    await until("a request with the selected item", () => transcript.asked().some(({ selected }) => selected !== undefined));
    await window.press("Escape", "Escape");
  });

  await workbench.step(t, "a request that fails is in the status bar, and the menu says why nothing was shown", async () => {
    await window.focus("a.py");
    await window.press("Escape", "Enter", "Home");
    await window.insert("#fail no memory");
    await until("the icon for trouble", async () => (await window.icon()) === "warning");
    await window.menu("Why was nothing shown?");
    await window.notifications.filter({ hasText: "the model failed on this request" }).waitFor();
    await window.dismissNotifications();
    await asks(window, "#say again", "again");
    await until("the icon for well", async () => (await window.icon()) === "sparkle");
  });

  await workbench.step(t, "the menu says what is going on, switches off and on, and restarts", async () => {
    await window.openMenu();
    const labels = await window.listed();
    for (const part of ["Turn suggestions off", "Turn off for python", "Why was nothing shown?", "Choose a model…", "Restart the server", "Open the log"]) {
      assert.ok(labels.some((label) => label.includes(part)), `${part} is not in ${labels.join(", ")}`);
    }
    await window.choose("Turn suggestions off");
    await until("the icon for off", async () => (await window.icon()) === "circle-slash");
    await window.menu("Turn suggestions on");
    await until("the icon for on", async () => (await window.icon()) === "sparkle");
    const starts = transcript.sent("initialize", "client").length;
    await window.menu("Restart the server");
    await until("a new start", () => transcript.sent("initialize", "client").length === starts + 1);
    await ready(window);
    await asks(window, "#say again", "again");
  });

  await workbench.step(t, "the menu changes the model, and goes back to the one that ships", async () => {
    await window.menu("Choose a model…");
    await window.choose("A folder with a checkpoint…");
    // The dialog first offers the workspace's folder, and accepts another one only after a delay.
    await until("the folder", async () => (await window.input.inputValue()).startsWith(folder.path));
    await window.press("Enter");
    await until("a start with it", () => lastOptions(transcript)?.model === folder.path);
    await ready(window);
    await window.menu("Choose a model…");
    await window.choose("The model that ships with the server");
    await until("a start without it", () => lastOptions(transcript)?.model === undefined);
    await ready(window);
  });

  await workbench.step(t, "the walkthrough knows that there is a server, and that a suggestion was accepted", async () => {
    await openWalkthrough(window);
    await isTicked(window, "server");
    await window.openFile("a.py");
    await asks(window, "#say accepted", "accepted");
    await window.press("Tab");
    await window.saved("a.py", (text) => text.endsWith("#say acceptedaccepted"));
    await openWalkthrough(window);
    await isTicked(window, "ghost");
  });
  await window.close();

  await workbench.step(t, "several folders have one server, which knows all of them", async () => {
    const one = workbench.folder("one", { "a.py": "" }, scriptedServer(), {});
    const two = workbench.folder("two", { "b.py": "" }, [], { "fim.server.path": undefined });
    const workspace = workbench.severalFolders("both", [one, two], { ...SETTINGS, "fim.server.path": `${one.path}-server` });
    let window = await workbench.open(two, "b.py", workspace);
    for (let windows = 1; !(await hasFolder(window, "two")); windows++) {
      await window.close();
      assert.ok(windows < WINDOWS, "VS Code opens the workspace without its folders");
      window = await workbench.open(two, "b.py", workspace);
    }
    await ready(window, "b.py");
    await window.type("#say value");
    await window.showsGhost("value");
    const starts = one.transcript.sent("initialize", "client").map(({ message }) => message.params as unknown as Start);
    const here = starts.at(-1);
    assert.deepEqual(here?.workspaceFolders.map(({ name }) => name), ["one", "two"]);
    // Windows that opened without folders have their own extension host, and perhaps a server.
    assert.equal(starts.filter(({ processId }) => processId === here.processId).length, 1, "one server a window");
    await window.close();
  });
}

interface Start {
  readonly processId: number;
  readonly workspaceFolders: readonly { readonly name: string }[];
}

/** The messages sent to the last started server. */
export function lastOptions(transcript: Transcript): Readonly<Record<string, unknown>> | undefined {
  const params = transcript.sent("initialize", "client").at(-1)?.message.params;
  return params?.initializationOptions as Readonly<Record<string, unknown>> | undefined;
}

async function openWalkthrough(window: EditorWindow): Promise<void> {
  await window.command("Welcome: Open Walkthrough...");
  await window.page.getByPlaceholder("Select a walkthrough").fill("Complete code with");
  await window.pick("Complete code with a model on your machine");
  await window.page.locator(".gettingStartedContainer").getByText("Find or install the server").first().waitFor();
}

/** A step of the walkthrough, by its name in package.json. */
async function isTicked(window: EditorWindow, step: string): Promise<void> {
  const box = window.page.locator(`.gettingStartedContainer [data-done-step-id$='#${step}']`).first();
  await until(`the step “${step}” to be ticked`, async () => (await box.getAttribute("aria-checked")) === "true");
}

/** In a browser, a workspace opened before it is connected has no folders until it is reopened. */
async function hasFolder(window: EditorWindow, name: string): Promise<boolean> {
  const tree = window.page.locator(".explorer-folders-view .monaco-list-row", { hasText: name }).first();
  const none = window.page.locator(".explorer-viewlet", { hasText: "You have not yet added a folder" }).first();
  await tree.or(none).first().waitFor();
  return tree.isVisible();
}

async function ready(window: EditorWindow, file = "a.py"): Promise<void> {
  await until("the server to be ready", async () => (await window.icon()) === "sparkle");
  await window.focus(file);
}

/** Type a line that requests an answer, and wait until it is shown; returns the text before it. */
async function asks(window: EditorWindow, line: string, answer: string): Promise<string> {
  await window.focus("a.py");
  await window.press("Escape", "Enter", "Home");
  await window.insert(line);
  await window.showsGhost(answer);
  return window.saved("a.py", (text) => text.endsWith(`\n${line}`));
}

/** Type a line, go left of its last characters, and ask by key; returns the text before the cursor. */
async function asksInside(window: EditorWindow, before: string, after: string): Promise<string> {
  await window.focus("a.py");
  await window.press("Escape", "Control+End", "Enter", "Home");
  await window.insert(before + after);
  await window.press("Escape", ...Array.from(after, () => "ArrowLeft"), "Alt+\\");
  await until("ghost text", async () => (await window.ghost()) !== "");
  return before;
}
