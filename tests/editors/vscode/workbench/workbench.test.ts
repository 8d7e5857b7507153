/** The extension in a real VS Code workbench, packaged and installed as a user would. */

import { mkdirSync } from "node:fs";
import { test } from "node:test";
import { ghostTests } from "./ghost";
import { missingTests } from "./missing";
import { nextEditTests } from "./nextEdit";
import { OUTPUT } from "./places";
import { Workbench } from "./workbench";

void test("VS Code", async (t) => {
  mkdirSync(OUTPUT, { recursive: true });
  const workbench = await Workbench.start();
  try {
    await t.test("ghost text", (t) => ghostTests(t, workbench));
    await t.test("proposed edits", (t) => nextEditTests(t, workbench));
    await t.test("when something is missing", (t) => missingTests(t, workbench));
  } finally {
    await workbench.stop();
  }
});
