/** The extension in a real VS Code workbench, packaged and installed as a user would. */

import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { test, type TestContext } from "node:test";
import { ghostTests } from "./ghost";
import { missingTests, trustTests, wheel } from "./missing";
import { nextEditTests } from "./nextEdit";
import { OUTPUT } from "./places";
import { scriptedTests } from "./scripted";
import { type Options, Workbench } from "./workbench";

type Group = (t: TestContext, workbench: Workbench) => Promise<void>;

async function inWorkbench(t: TestContext, options: Options, groups: Readonly<Record<string, Group>>): Promise<void> {
  const workbench = await Workbench.start(options);
  try {
    for (const [name, group] of Object.entries(groups)) {
      await t.test(name, (t) => group(t, workbench));
      await workbench.closeWindows();
    }
  } finally {
    await workbench.stop();
  }
}

void test("VS Code", async (t) => {
  mkdirSync(OUTPUT, { recursive: true });
  const folder = mkdtempSync(path.join(tmpdir(), "fim-wheel-"));
  try {
    await inWorkbench(t, { machine: { "fim.server.package": wheel(folder) } }, {
      "ghost text, key by key": scriptedTests,
      "proposed edits": nextEditTests,
      "when something is missing": missingTests,
      "ghost text of the model that ships": ghostTests,
    });
    await inWorkbench(t, { trust: true }, { "workspace trust": trustTests });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
