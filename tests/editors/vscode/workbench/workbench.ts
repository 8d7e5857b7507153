/** A real VS Code: code-server with the packaged extension, and headless Chromium to look at it. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { type Browser, chromium as driver } from "playwright-core";
import { chromium, codeServer, python, RECORDER, ROOT, VSIX } from "./places";
import { Transcript } from "./transcript";
import { EditorWindow, PATIENCE_MS } from "./window";

/** Everything that could move in front of what a test looks at is off. */
const QUIET = {
  "security.workspace.trust.enabled": false,
  "workbench.startupEditor": "none",
  "workbench.tips.enabled": false,
  "telemetry.telemetryLevel": "off",
  "update.mode": "none",
  "extensions.ignoreRecommendations": true,
  "git.enabled": false,
  "editor.quickSuggestions": { other: "off", comments: "off", strings: "off" },
  "editor.suggestOnTriggerCharacters": false,
  "editor.autoClosingBrackets": "never",
  "editor.autoClosingQuotes": "never",
  "editor.autoIndent": "none",
  "editor.minimap.enabled": false,
  "files.eol": "\n",
  "files.autoSave": "afterDelay",
  "files.autoSaveDelay": 100,
  "chat.commandCenter.enabled": false,
};

export interface Folder {
  readonly path: string;
  readonly transcript: Transcript;
}

export class Workbench {
  private constructor(
    private readonly home: string,
    private readonly server: ChildProcess,
    private readonly browser: Browser,
    private readonly url: string,
  ) {}

  static async start(): Promise<Workbench> {
    const home = mkdtempSync(path.join(tmpdir(), "fim-vscode-"));
    const settings = path.join(home, "data/User/settings.json");
    mkdirSync(path.dirname(settings), { recursive: true });
    writeFileSync(settings, JSON.stringify(QUIET));
    const common = [codeServer(), "--user-data-dir", path.join(home, "data"), "--extensions-dir", path.join(home, "ext")];
    const env = { ...process.env, XDG_CONFIG_HOME: home, XDG_DATA_HOME: home, HOME: home, PATH: pathWithoutServer() };
    const installed = spawnSync(process.execPath, [...common, "--install-extension", VSIX], { env, encoding: "utf8" });
    if (installed.status !== 0) throw new Error(`the VSIX could not be installed: ${installed.stderr}`);
    const port = await freePort();
    const args = ["--bind-addr", `127.0.0.1:${String(port)}`, "--auth", "none"];
    const quiet = ["--disable-telemetry", "--disable-update-check", "--disable-workspace-trust"];
    const server = spawn(process.execPath, [...common, ...args, ...quiet], { env, stdio: ["ignore", "pipe", "pipe"] });
    await listening(server);
    const browser = await driver.launch({ executablePath: chromium(), args: ["--no-sandbox"] });
    return new Workbench(home, server, browser, `http://127.0.0.1:${String(port)}/`);
  }

  /** A workspace whose server is `command`, with a recorder in front of it. */
  folder(name: string, files: Readonly<Record<string, string>>, command: readonly string[], settings: object): Folder {
    const folder = path.join(this.home, name);
    const record = path.join(this.home, `${name}.jsonl`);
    const program = path.join(this.home, `${name}-server`);
    if (command.length > 0) writeProgram(program, [process.execPath, RECORDER, record, ...command]);
    mkdirSync(path.join(folder, ".vscode"), { recursive: true });
    const all = { "fim.server.path": program, ...settings };
    writeFileSync(path.join(folder, ".vscode/settings.json"), JSON.stringify(all));
    for (const [file, text] of Object.entries(files)) writeFileSync(path.join(folder, file), text);
    return { path: folder, transcript: new Transcript(record) };
  }

  /** A window on a folder, with one of its files open. */
  async open(folder: Folder, file: string): Promise<EditorWindow> {
    const context = await this.browser.newContext({ viewport: { width: 1100, height: 700 } });
    const page = await context.newPage();
    const uri = `vscode-remote://${new URL(this.url).host}${path.join(folder.path, file)}`;
    const query = new URLSearchParams({ folder: folder.path, payload: JSON.stringify([["openFile", uri]]) });
    page.setDefaultTimeout(PATIENCE_MS);
    await page.goto(`${this.url}?${query.toString()}`, { waitUntil: "commit", timeout: PATIENCE_MS });
    const window = new EditorWindow(page, folder.path);
    await window.status.waitFor();
    return window;
  }

  async stop(): Promise<void> {
    await this.browser.close();
    const gone = new Promise((resolve) => this.server.once("exit", resolve));
    this.server.kill("SIGTERM");
    await gone;
    rmSync(this.home, { recursive: true, force: true });
  }
}

export function writeProgram(file: string, command: readonly string[]): void {
  const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  const sources = ["", "model", "kernels"].map((name) => path.join(ROOT, name)).join(":");
  writeFileSync(file, `#!/bin/sh\nPYTHONPATH='${sources}' OMP_NUM_THREADS=1 exec ${quoted} "$@"\n`);
  chmodSync(file, 0o755);
}

export function realServer(): string[] {
  return [python(), "-m", "fim_server"];
}

/** A person's own fim-server must not be found where the test says there is none. */
function pathWithoutServer(): string {
  return (process.env.PATH ?? "").split(":").filter((folder) => folder.startsWith("/usr/") || folder === "/bin").join(":");
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => {
        if (address === null || typeof address === "string") reject(new Error("no port"));
        else resolve(address.port);
      });
    });
  });
}

function listening(server: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = "";
    const take = (chunk: Buffer): void => {
      said += chunk.toString();
      if (said.includes("HTTP server listening")) resolve();
    };
    server.stdout?.on("data", take);
    server.stderr?.on("data", take);
    server.once("exit", (code) => {
      reject(new Error(`code-server ended with ${String(code)}:\n${said}`));
    });
  });
}
