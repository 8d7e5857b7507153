/** Restricted mode: an untrusted folder cannot set the server's program, an address or a model. */

import assert from "node:assert/strict";
import { mkdirSync, renameSync } from "node:fs";
import path from "node:path";
import type { TestContext } from "node:test";
import { lastOptions, scriptedServer } from "./scripted";
import { until } from "./window";
import type { Workbench } from "./workbench";

/** The `restrictedConfigurations` of package.json, besides the path of the server. */
const RESTRICTED = {
  model: "/brought/by/the/folder",
  backend: "openai",
  remoteUrl: "http://127.0.0.1:9/",
  exclude: ["*.secret"],
  gitignore: false,
};
const HARMLESS = { maxTokens: 7, nextEdits: false };
const TRUST = {
  "security.workspace.trust.enabled": true,
  "security.workspace.trust.startupPrompt": "never",
  "security.workspace.trust.banner": "never",
};

export async function trustTests(t: TestContext, workbench: Workbench): Promise<void> {
  const brought: Record<string, unknown> = {};
  for (const [key, value] of Object.entries({ ...RESTRICTED, ...HARMLESS })) brought[`fim.${key}`] = value;
  const folder = workbench.folder("restricted", { "a.py": "x\n" }, scriptedServer(), brought);
  const bin = path.join(folder.path, ".venv/bin");
  mkdirSync(bin, { recursive: true });
  const inFolder = workbench.program("restricted-venv", scriptedServer());
  renameSync(inFolder.file, path.join(bin, "fim-server"));
  const ofMachine = workbench.program("machine", scriptedServer());
  workbench.configure(TRUST, { "fim.server.path": ofMachine.file });
  try {
    const window = await workbench.open(folder, "a.py");

    await workbench.step(t, "the machine's server runs, and is told nothing that restrictedConfigurations names", async () => {
      await until("ready", async () => (await window.icon()) === "sparkle");
      assert.deepEqual(lastOptions(ofMachine.transcript), { logLevel: "debug", workspaceTrusted: false, ...HARMLESS });
      assert.deepEqual([folder, inFolder].map(({ transcript }) => transcript.entries()), [[], []], "no server of the folder");
    });

    await workbench.step(t, "suggestions come as ever", async () => {
      await window.focus("a.py");
      await window.insert("#say hello");
      await window.showsGhost("hello");
      await window.press("Tab");
      await window.saved("a.py", (text) => text === "x\n#say hellohello");
    });

    await workbench.step(t, "once the folder is trusted, its server and its settings are taken", async () => {
      await window.command("Workspaces: Manage Workspace Trust");
      await window.page.locator(".workspace-trust-editor").getByRole("button", { name: "Trust", exact: true }).click();
      const options = { logLevel: "debug", workspaceTrusted: true, ...RESTRICTED, ...HARMLESS };
      await until("the folder's server", () => lastOptions(folder.transcript)?.model !== undefined);
      assert.deepEqual(lastOptions(folder.transcript), options);
      assert.equal(ofMachine.transcript.sent("shutdown", "client").length, 1, "the other one has ended");
      await until("ready", async () => (await window.icon()) === "sparkle");
    });
    await window.close();
  } finally {
    await workbench.closeWindows();
    workbench.configure({}, {});
  }
}
