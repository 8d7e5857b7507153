/** A missing server, and one that cannot load its model: errors with a remedy. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import path from "node:path";
import type { TestContext } from "node:test";
import { OUTPUT, python } from "./places";
import { scriptedServer } from "./scripted";
import { until } from "./window";
import { realServer, SOURCES, type Workbench, writeProgram } from "./workbench";

export async function missingTests(t: TestContext, workbench: Workbench): Promise<void> {
  await workbench.step(t, "a missing server is an error notification; once it is there, Try Again starts it", async () => {
    const folder = workbench.folder("missing", { "a.py": "x\n" }, [], {});
    const window = await workbench.open(folder, "a.py");
    const notification = window.notifications.filter({ hasText: "fim-server was not found" });
    await notification.waitFor();
    assert.match(await notification.innerText(), /missing-server is not a program/);
    assert.equal(await window.icon(), "error");
    await window.page.screenshot({ path: path.join(OUTPUT, "missing.png") });

    writeProgram(`${folder.path}-server`, scriptedServer());
    await notification.getByRole("button", { name: "Try Again" }).click();
    await until("the server to be ready", async () => (await window.icon()) === "sparkle");
    await window.close();
  });

  await workbench.step(t, "a model that cannot be loaded is named, and is in the status bar", async () => {
    const folder = workbench.folder("nomodel", { "a.py": "x\n" }, realServer(), { "fim.backend": "in_process", "fim.model": "/nowhere/model" });
    const window = await workbench.open(folder, "a.py");
    await window.notifications.filter({ hasText: "/nowhere/model" }).waitFor();
    await until("the error icon", async () => (await window.icon()) === "error");
    await window.close();
  });

  await workbench.step(t, "a wrong setting is told in the log, and the server works on", async () => {
    const folder = workbench.folder("wrong", { "a.py": "x\n" }, scriptedServer(), { "fim.maxTokens": "many" });
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

  await workbench.step(t, "without a server, a private environment is made and the server installed into it", async () => {
    const folder = workbench.folder("nothing", { "a.py": "x\n" }, [], { "fim.server.path": "" });
    const window = await workbench.open(folder, "a.py");
    const notification = window.notifications.filter({ hasText: "install fim-server, or set fim.server.path" });
    const told = await window.watchNotifications();
    await notification.getByRole("button", { name: "Install It" }).click();
    await window.choose("For the CPU");
    await until("the server to be ready", async () => (await window.icon()) === "sparkle");
    assert.match(await told(), /making a virtual environment/);
    await window.focus("a.py");
    await window.type("#say hello");
    await window.showsGhost("hello");
    await window.close();
  });
}

/**
 * A wheel whose only program is a `fim-server` that runs the scripted server: pip installs it without a
 * network, and everything else of the installation is as with the real one.
 */
export function wheel(folder: string): string {
  const file = path.join(folder, "fim_stand_in-1-py3-none-any.whl");
  const [program, words] = [python(), scriptedServer()].map((value) => JSON.stringify(value));
  const main = `    os.environ["PYTHONPATH"] = ${JSON.stringify(SOURCES)}\n    os.execv(${program ?? ""}, ${words ?? ""} + sys.argv[1:])\n`;
  const contents = {
    "fim_stand_in.py": `import os, sys\ndef main():\n${main}`,
    "fim_stand_in-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: fim-stand-in\nVersion: 1\n",
    "fim_stand_in-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "fim_stand_in-1.dist-info/entry_points.txt": "[console_scripts]\nfim-server = fim_stand_in:main\n",
    "fim_stand_in-1.dist-info/RECORD": "",
  };
  const zip = "import json, sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w') as z:\n    for n, t in json.loads(sys.argv[2]).items(): z.writestr(n, t)";
  const made = spawnSync(python(), ["-c", zip, file, JSON.stringify(contents)], { encoding: "utf8" });
  assert.equal(made.status, 0, made.stderr);
  return file;
}
