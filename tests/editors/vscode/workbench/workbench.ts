/** A real VS Code: code-server with the packaged extension, and headless Chromium to look at it. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { type Browser, type BrowserContext, chromium as driver } from "playwright-core";
import { chromium, codeServer, OUTPUT, python, RECORDER, ROOT, VSIX } from "./places";
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
  "editor.cursorBlinking": "solid",
  "workbench.reduceMotion": "on",
  "workbench.enableExperiments": false,
  "extensions.autoCheckUpdates": false,
  "files.eol": "\n",
  "files.autoSave": "afterDelay",
  "files.autoSaveDelay": 100,
  "chat.commandCenter.enabled": false,
};

export interface Folder {
  readonly path: string;
  readonly transcript: Transcript;
}

/** code-server gives its own start a few seconds, which a busy machine may not have. */
const STARTS = 4;

export class Workbench {
  private readonly records: string[] = [];

  private constructor(
    readonly home: string,
    private readonly server: ChildProcess,
    private readonly browser: Browser,
    /** One for all windows: the second one finds the workbench's code in the browser's cache. */
    private readonly context: BrowserContext,
    private readonly url: string,
  ) {}

  /** `machine` are settings of the machine: those that no workspace may set. */
  static async start(machine: Readonly<Record<string, unknown>> = {}): Promise<Workbench> {
    const home = mkdtempSync(path.join(tmpdir(), "fim-vscode-"));
    for (const [kind, settings] of Object.entries({ User: QUIET, Machine: machine })) {
      mkdirSync(path.join(home, "data", kind), { recursive: true });
      writeFileSync(path.join(home, "data", kind, "settings.json"), JSON.stringify(settings));
    }
    const common = [codeServer(), "--user-data-dir", path.join(home, "data"), "--extensions-dir", path.join(home, "ext")];
    const env = { ...process.env, XDG_CONFIG_HOME: home, XDG_DATA_HOME: home, HOME: home, PATH: cleanPath(home) };
    const installed = spawnSync(process.execPath, [...common, "--install-extension", VSIX], { env, encoding: "utf8" });
    if (installed.status !== 0) throw new Error(`the VSIX could not be installed: ${installed.stderr}`);
    const quiet = ["--auth", "none", "--disable-telemetry", "--disable-update-check", "--disable-workspace-trust"];
    const args = [...common, ...quiet];
    const { server, port } = await started(args, env);
    const flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"];
    const browser = await driver.launch({ executablePath: chromium(), args: flags });
    const context = await browser.newContext({ viewport: { width: 1100, height: 700 } });
    context.setDefaultTimeout(PATIENCE_MS);
    return new Workbench(home, server, browser, context, `http://127.0.0.1:${String(port)}/`);
  }

  /** A test of this workbench: if it fails, pictures of all windows and what was said are kept. */
  step(t: TestContext, name: string, run: () => Promise<void>): Promise<void> {
    return t.test(name, async () => {
      try {
        await run();
      } catch (problem) {
        await this.keepEvidence(name.replaceAll(/\W+/g, "-"));
        throw problem;
      }
    });
  }

  async closeWindows(): Promise<void> {
    for (const page of this.context.pages()) await page.close();
  }

  /** A workspace whose server is `command`, with a recorder in front of it. */
  folder(name: string, files: Readonly<Record<string, string>>, command: readonly string[], settings: object): Folder {
    const folder = path.join(this.home, name);
    const record = path.join(this.home, `${name}.jsonl`);
    const program = path.join(this.home, `${name}-server`);
    if (command.length > 0) writeProgram(program, [process.execPath, RECORDER, record, ...command]);
    this.records.push(record);
    mkdirSync(path.join(folder, ".vscode"), { recursive: true });
    const all = { "fim.server.path": program, ...settings };
    writeFileSync(path.join(folder, ".vscode/settings.json"), JSON.stringify(all));
    for (const [file, text] of Object.entries(files)) writeFileSync(path.join(folder, file), text);
    return { path: folder, transcript: new Transcript(record) };
  }

  /** A workspace of several folders, with settings of its own. */
  severalFolders(name: string, folders: readonly Folder[], settings: object): string {
    const file = path.join(this.home, `${name}.code-workspace`);
    const relative = folders.map((folder) => ({ path: path.relative(this.home, folder.path) }));
    writeFileSync(file, JSON.stringify({ folders: relative, settings }));
    return file;
  }

  /** A window on a folder, or on a workspace that has it, with one of its files open. */
  async open(folder: Folder, file: string, workspace?: string): Promise<EditorWindow> {
    const page = await this.context.newPage();
    const uri = `vscode-remote://${new URL(this.url).host}${path.join(folder.path, file)}`;
    const payload = JSON.stringify([["openFile", uri]]);
    const query = new URLSearchParams(workspace === undefined ? { folder: folder.path, payload } : { workspace, payload });
    await page.goto(`${this.url}?${query.toString()}`, { waitUntil: "commit" });
    const window = new EditorWindow(page, folder.path);
    await window.status.waitFor();
    return window;
  }

  private async keepEvidence(name: string): Promise<void> {
    mkdirSync(OUTPUT, { recursive: true });
    for (const [number, page] of this.context.pages().entries()) {
      await page.screenshot({ path: path.join(OUTPUT, `failed-${name}-${String(number)}.png`) }).catch(() => undefined);
    }
    for (const record of this.records.filter((file) => existsSync(file))) {
      copyFileSync(record, path.join(OUTPUT, `failed-${name}-${path.basename(record)}`));
    }
  }

  async stop(): Promise<void> {
    await this.browser.close();
    const gone = new Promise((resolve) => this.server.once("exit", resolve));
    this.server.kill("SIGTERM");
    await gone;
    rmSync(this.home, { recursive: true, force: true });
  }
}

/** The PYTHONPATH of this repository's own packages. */
export const SOURCES = ["", "model", "kernels"].map((name) => path.join(ROOT, name)).join(":");

export function writeProgram(file: string, command: readonly string[]): void {
  const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  writeFileSync(file, `#!/bin/sh\nPYTHONPATH='${SOURCES}' OMP_NUM_THREADS=1 exec ${quoted} "$@"\n`);
  chmodSync(file, 0o755);
}

export function realServer(): string[] {
  return [python(), "-m", "fim_server"];
}

/** The system's programs and our Python: a person's own fim-server must not be found. */
function cleanPath(home: string): string {
  const bin = path.join(home, "bin");
  mkdirSync(bin);
  const base = spawnSync(python(), ["-c", "import sys; print(sys._base_executable)"], { encoding: "utf8" });
  symlinkSync(base.stdout.trim(), path.join(bin, "python3"));
  return [bin, "/usr/bin", "/bin"].join(":");
}

/** Start code-server; it is tried again if it gives up by itself. */
async function started(args: readonly string[], env: NodeJS.ProcessEnv): Promise<{ server: ChildProcess; port: number }> {
  for (let tries = 1; ; tries++) {
    const port = await freePort();
    const all = [...args, "--bind-addr", `127.0.0.1:${String(port)}`];
    const server = spawn(process.execPath, all, { env, stdio: ["ignore", "pipe", "pipe"] });
    try {
      await listening(server);
      return { server, port };
    } catch (problem) {
      if (tries === STARTS) throw problem;
    }
  }
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
