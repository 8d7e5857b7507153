/** The extension in a real VS Code workbench, packaged and installed as a user would. */

import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { assistantTests } from "./assistant";
import { defaultsTests } from "./defaults";
import { ghostTests } from "./ghost";
import { missingTests, wheel } from "./missing";
import { nextEditTests } from "./nextEdit";
import { OUTPUT } from "./places";
import { scriptedTests } from "./scripted";
import { trustTests } from "./trust";
import { Workbench } from "./workbench";

const GROUPS: Readonly<Record<string, (t: TestContext, workbench: Workbench) => Promise<void>>> = {
  "ghost text, key by key": scriptedTests,
  "VS Code's own defaults": defaultsTests,
  "proposed edits": nextEditTests,
  "instructions and questions": assistantTests,
  "when something is missing": missingTests,
  "a folder that is not trusted": trustTests,
  "ghost text of the model that ships": ghostTests,
};

void test("VS Code", async (t) => {
  mkdirSync(OUTPUT, { recursive: true });
  for (const file of readdirSync(OUTPUT).filter((name) => name.startsWith("failed-"))) rmSync(path.join(OUTPUT, file));
  const folder = mkdtempSync(path.join(tmpdir(), "fim-wheel-"));
  try {
    const workbench = await Workbench.start({ "fim.server.package": wheel(folder) });
    try {
      const chosen = new RegExp(process.env.FIM_WORKBENCH ?? ""); // run some groups by part of their names
      for (const [name, group] of Object.entries(GROUPS).filter(([name]) => chosen.test(name))) {
        await t.test(name, (t) => workbench.watched(name, () => group(t, workbench)));
        await workbench.closeWindows();
      }
    } finally {
      await workbench.stop();
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
