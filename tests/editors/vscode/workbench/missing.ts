/** A server that cannot be found, and one that cannot load its model: said aloud, with the way out. */

import assert from "node:assert/strict";
import path from "node:path";
import type { TestContext } from "node:test";
import { python, ROOT } from "./places";
import { until } from "./window";
import { realServer, type Workbench, writeProgram } from "./workbench";

export async function missingTests(t: TestContext, workbench: Workbench): Promise<void> {
  await t.test("a missing server is an error notification; once it is there, Try Again starts it", async () => {
    const folder = workbench.folder("missing", { "a.py": "x\n" }, [], {});
    const window = await workbench.open(folder, "a.py");
    const notification = window.notifications.filter({ hasText: "fim-server was not found" });
    await notification.waitFor();
    assert.match(await notification.innerText(), /missing-server is not a program/);
    assert.equal(await window.icon(), "error");
    await window.page.screenshot({ path: path.join(ROOT, ".cache/vscode-test/missing.png") });

    const scripted = path.join(ROOT, "tests/server/scripted.py");
    writeProgram(`${folder.path}-server`, [python(), scripted]);
    await notification.getByRole("button", { name: "Try Again" }).click();
    await until("the server to be ready", async () => (await window.icon()) === "sparkle");
    await window.close();
  });

  await t.test("a model that cannot be loaded is named, and is in the status bar", async () => {
    const folder = workbench.folder("nomodel", { "a.py": "x\n" }, realServer(), { "fim.model": "/nowhere/model" });
    const window = await workbench.open(folder, "a.py");
    await window.notifications.filter({ hasText: "/nowhere/model" }).waitFor();
    await until("the error icon", async () => (await window.icon()) === "error");
    await window.close();
  });

  await t.test("a wrong setting is told in the log, and the server works on", async () => {
    const scripted = [python(), path.join(ROOT, "tests/server/scripted.py")];
    const folder = workbench.folder("wrong", { "a.py": "x\n" }, scripted, { "fim.maxTokens": "many" });
    const window = await workbench.open(folder, "a.py");
    await until("ready", async () => (await window.icon()) === "sparkle");
    const told = await until("the message", () =>
      folder.transcript.sent("window/logMessage", "server").find(({ message }) => JSON.stringify(message).includes("maxTokens")),
    );
    assert.match(JSON.stringify(told.message), /'many' is not used/);
    await window.focus("a.py");
    await window.type("#say hello");
    await until("the ghost text", async () => (await window.ghost()) === "hello");
    await window.close();
  });
}
