/**
 * Next edits in the workbench. A scripted server sends them, so that they are known in advance
 * (tests/editors/vscode/scripted_edits.py); everything on the editor's side is real.
 */

import assert from "node:assert/strict";
import path from "node:path";
import type { TestContext } from "node:test";
import { OUTPUT, python, SCRIPTED } from "./places";
import { type EditorWindow, until } from "./window";
import type { Workbench } from "./workbench";

const CODE = "price = 3\nprint(price)\nother = price * 2\n";
const ORDER = "# rename price cost!";
const SNIPPET = JSON.stringify({ "two places": { prefix: "twoplaces", body: `${ORDER} $1 and $2 end` } });

export async function nextEditTests(t: TestContext, workbench: Workbench): Promise<void> {
  const files = { "one.py": CODE, "two.py": CODE, "three.py": CODE, "four.py": CODE, ".vscode/two.code-snippets": SNIPPET };
  const settings = { "fim.automatic": false, "fim.backend": "in_process" };
  const folder = workbench.folder("rename", files, [python(), SCRIPTED], settings);

  const window = await workbench.open(folder, "one.py");
  await until("the server to be ready", async () => (await window.icon()) === "sparkle");

  await workbench.step(t, "Tab goes to a proposed edit, then accepts it, and so on to the last", async () => {
    await window.focus("one.py");
    await window.insert(ORDER);
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
    const renamed = CODE.replaceAll("price", "cost") + ORDER;
    await window.shows("the new names", (text) => text === renamed);
    await until("the decorations to go", async () => (await window.decorations()) === "");

    await window.press("Tab"); // is a Tab again
    await window.shows("a Tab", (text) => /^other = cost +\* 2$/m.test(text) && text.length > renamed.length);
    await window.press("Control+Z");
    await window.shows("no Tab", (text) => text === renamed);
    await window.press("Control+Z"); // one step takes one edit back
    const taken = renamed.replace("other = cost", "other = price");
    await window.shows("the last edit taken back", (text) => text === taken);
    await window.saved("one.py", (text) => text === taken);
  });

  await workbench.step(t, "two Tabs, pressed quickly, go to an edit and accept it", async () => {
    await window.openFile("three.py");
    await window.insert(ORDER);
    await proposed(window, 1);
    await window.press("Tab", "Tab");
    await window.shows("the first edit", (text) => text === CODE.replace("price", "cost") + ORDER);
    await proposed(window, 2);
  });

  await workbench.step(t, "typing takes a proposed edit away, and Tab is a Tab again", async () => {
    await window.openFile("two.py");
    await window.insert(ORDER);
    await proposed(window, 1);
    await window.type("x");
    await until("the decorations to go", async () => (await window.decorations()) === "");
    await window.press("Tab");
    const text = await window.saved("two.py", (now) => /!x\s+$/.test(now));
    assert.ok(text.startsWith(CODE), "nothing was renamed");
  });

  await workbench.step(t, "while a snippet has places to fill, Tab goes to the next of them", async () => {
    await window.openFile("four.py");
    await window.command("Snippets: Insert Snippet");
    await window.choose("twoplaces");
    await proposed(window, 1);
    await window.press("Tab");
    await window.type("here");
    await window.saved("four.py", (text) => text === `${CODE}${ORDER}  and here end`);
  });
}

async function proposed(window: EditorWindow, line: number): Promise<void> {
  await until("the edit and the way to it", async () => {
    const shown = await window.decorations();
    return shown.includes(`⇥ edit in line ${String(line)} `) && shown.includes("cost");
  });
}
