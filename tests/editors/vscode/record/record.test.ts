/** The recording of scripts/record-vscode: real workbench, real model, a screenshot after each key.
*/

import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { OUTPUT } from "../workbench/places";
import { FILE, OPENINGS, openShop, settled } from "../workbench/shop";
import { until } from "../workbench/window";
import { Workbench } from "../workbench/workbench";

const FRAMES = path.join(OUTPUT, "frames");
const WANTED = 2;

void test("typing, ghost text, Tab", async () => {
  rmSync(FRAMES, { recursive: true, force: true });
  mkdirSync(FRAMES, { recursive: true });
  const workbench = await Workbench.start();
  try {
    const { window, folder } = await openShop(workbench, "shop");
    await until("the model to be loaded", async () => (await window.icon()) === "sparkle");
    await window.focus(FILE);
    await window.command("View: Toggle Primary Side Bar Visibility");
    const frames: { readonly ms: number; readonly png: Buffer }[] = [];
    const frame = async (ms: number): Promise<void> => {
      frames.push({ ms, png: await window.page.screenshot() });
    };
    let shown = 0;
    for (const opening of OPENINGS) {
      await window.focus(FILE);
      await window.press("Escape", "Enter", "Home");
      const asked = folder.transcript.asked().length;
      const began = frames.length;
      for (const key of opening) {
        await window.type(key);
        await frame(80);
      }
      if ((await settled(window, folder.transcript, asked, opening.length)) === "") {
        frames.length = began; // nothing to see: the next opening's pictures take the place of these
        continue;
      }
      await frame(1200);
      await window.press("Tab");
      await until("it to be accepted", async () => (await window.ghost()) === "" || folder.transcript.asked().length > asked);
      await frame(1200);
      if (++shown === WANTED) break;
    }
    assert.ok(shown > 0, "the model had nothing to say at any of the openings");
    for (const [number, { ms, png }] of frames.entries()) {
      writeFileSync(path.join(FRAMES, `${String(number).padStart(3, "0")}-${String(ms)}.png`), png);
    }
  } finally {
    await workbench.stop();
  }
});
