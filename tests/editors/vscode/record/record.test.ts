/** The recording of scripts/record-vscode: real workbench, real model, a screenshot after each key.
*/

import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { DEFAULTS } from "../workbench/defaults";
import { OUTPUT } from "../workbench/places";
import { settled } from "../workbench/shop";
import { until } from "../workbench/window";
import { realServer, Workbench } from "../workbench/workbench";

const FRAMES = path.join(OUTPUT, "frames");
const FILE = "account.py";
const START = `class Account:
    def __init__(self, owner, balance=0):
        self.owner = owner
        self.balance = balance

    def deposit(self, amount):
        self.balance += amount

`;
/** Keys to the place, then what is typed there, and the column in which a suggestion is waited for. */
const SCENES = [
  { keys: [], typed: "    def withdraw(self, amount):\n", column: 8 },
  { keys: ["Enter", "Enter", "Shift+Tab"], typed: "def owner_name(self):\nreturn ", column: 15 },
];

void test("typing, ghost text, Tab", async () => {
  rmSync(FRAMES, { recursive: true, force: true });
  mkdirSync(FRAMES, { recursive: true });
  const workbench = await Workbench.start();
  try {
    // All other settings are VS Code's and the extension's own; the engine would outlive the window.
    const folder = workbench.folder("record", { [FILE]: START }, realServer(), { ...DEFAULTS, "fim.backend": "in_process" });
    const window = await workbench.open(folder, FILE);
    await until("the model to be loaded", async () => (await window.icon()) === "sparkle");
    await window.focus(FILE);
    await window.command("View: Toggle Primary Side Bar Visibility");
    await window.focus(FILE);
    const frames: { readonly ms: number; readonly png: Buffer }[] = [];
    const frame = async (ms: number): Promise<void> => {
      frames.push({ ms, png: await window.page.screenshot() });
    };
    for (const { keys, typed, column } of SCENES) {
      const asked = folder.transcript.asked().length;
      await window.press(...keys);
      for (const key of typed) {
        await (key === "\n" ? window.press("Enter") : window.type(key));
        await frame(80);
      }
      const text = await settled(window, folder.transcript, asked, column);
      assert.notEqual(text, "", "the model suggested nothing");
      await frame(1200);
      await window.press("Tab");
      await window.saved(FILE, (now) => now.endsWith(text));
      await frame(1200);
    }
    for (const [number, { ms, png }] of frames.entries()) {
      writeFileSync(path.join(FRAMES, `${String(number).padStart(3, "0")}-${String(ms)}.png`), png);
    }
  } finally {
    await workbench.stop();
  }
});
