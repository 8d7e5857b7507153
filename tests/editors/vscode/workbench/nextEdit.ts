/**
 * Edits that ghost text cannot show. The real server does not propose any yet: these come from a
 * scripted one (tests/editors/vscode/scripted_edits.py); everything on the editor's side is real.
 */

import assert from "node:assert/strict";
import path from "node:path";
import type { TestContext } from "node:test";
import { OUTPUT, python, SCRIPTED } from "./places";
import { type EditorWindow, until } from "./window";
import type { Workbench } from "./workbench";

const CODE = "price = 3\nprint(price)\nother = price * 2\n";

export async function nextEditTests(t: TestContext, workbench: Workbench): Promise<void> {
  const files = { "one.py": CODE, "two.py": CODE };
  const folder = workbench.folder("rename", files, [python(), SCRIPTED], { "fim.automatic": false, "fim.backend": "in_process" });

  await t.test("Tab goes to a proposed edit, then accepts it, and so on to the last", async () => {
    const window = await workbench.open(folder, "one.py");
    await ready(window, "one.py");
    await window.type("# rename price cost!");
    await proposed(window, 1);
    await window.page.screenshot({ path: path.join(OUTPUT, "next-edit.png") });
    for (let edit = 0; edit < 3; edit++) {
      await proposed(window, edit + 1);
      await window.press("Tab"); // go there
      await until("the way to the edit to go", async () => !(await window.decorations()).includes("⇥"));
      await window.press("Tab"); // accept
      const accepted = (): number => folder.transcript.sent("workspace/executeCommand", "client").length;
      await until("the edit to be reported as accepted", () => accepted() === edit + 1);
    }
    const renamed = `${CODE.replaceAll("price", "cost")}# rename price cost!`;
    await window.saved("one.py", (text) => text === renamed);
    await until("the decorations to go", async () => (await window.decorations()) === "");

    await window.press("Tab"); // is a Tab again
    await window.saved("one.py", (text) => /^other = cost +\* 2$/m.test(text) && text.length > renamed.length);
    await window.press("Control+Z");
    await window.saved("one.py", (text) => text === renamed);
    await window.press("Control+Z"); // one step takes one edit back
    await window.saved("one.py", (text) => text === renamed.replace("other = cost", "other = price"));
    await window.close();
  });

  await t.test("typing takes a proposed edit away, and Tab is a Tab again", async () => {
    const window = await workbench.open(folder, "two.py");
    await ready(window, "two.py");
    await window.type("# rename price cost!");
    await proposed(window, 1);
    await window.type("x");
    await until("the decorations to go", async () => (await window.decorations()) === "");
    await window.press("Tab");
    const text = await window.saved("two.py", (now) => /!x\s+$/.test(now));
    assert.ok(text.startsWith(CODE), "nothing was renamed");
    await window.close();
  });
}

async function ready(window: EditorWindow, file: string): Promise<void> {
  await until("the server to be ready", async () => (await window.icon()) === "sparkle");
  await window.focus(file);
}

async function proposed(window: EditorWindow, line: number): Promise<void> {
  await until("the edit and the way to it", async () => {
    const shown = await window.decorations();
    return shown.includes(`⇥ edit in line ${String(line)} `) && shown.includes("cost");
  });
}
