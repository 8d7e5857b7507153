/** A real VS Code: code-server with the packaged extension, viewed in headless Chromium. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import type { TestContext } from "node:test";
import { type Browser, type BrowserContext, chromium as driver, type Page } from "playwright-core";
import { chromium, codeServer, OUTPUT, python, RECORDER, ROOT, VSIX } from "./places";
import { Transcript } from "./transcript";
import { EditorWindow, PATIENCE_MS } from "./window";

/** Settings that turn off everything that could cover what a test looks at. */
const QUIET = {
  "security.workspace.trust.enabled": false, // another group's test turns it on
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

type Settings = Readonly<Record<string, unknown>>;

export interface Folder {
  readonly path: string;
  readonly transcript: Transcript;
  /** Additional settings of the folder. */
  set(more: Settings): void;
}

/** A server program with a recorder in front of it. */
export interface Program {
  readonly file: string;
  readonly transcript: Transcript;
}

/** Attempts to start code-server, whose own timeout is too short on a busy machine. */
const STARTS = 4;
/** Timeout for starting the workbench, its connection, its extension host and our extension. */
const OPENS_WITHIN_MS = PATIENCE_MS;
const WINDOWS = 3;

export class Workbench {
  private readonly records: string[] = [];
  /** Errors of the windows in the browser's console. */
  private readonly consoleLines: string[] = [];
  /** Groups with a failed step, whose later steps would start from a wrong state. */
  private readonly failed = new WeakSet<TestContext>();

  private constructor(
    readonly home: string,
    private readonly server: ChildProcess,
    private readonly browser: Browser,
    /** Shared by all windows, so that later ones find the workbench's code in the browser's cache.
    */
    private readonly context: BrowserContext,
    private readonly url: string,
    private readonly machine: Settings,
  ) {}

  /** `machine` are machine-level settings, which a workspace cannot set. */
  static async start(machine: Settings = {}): Promise<Workbench> {
    const home = mkdtempSync(path.join(tmpdir(), "fim-vscode-"));
    writeSettings(home, QUIET, machine);
    const common = [codeServer(), "--user-data-dir", path.join(home, "data"), "--extensions-dir", path.join(home, "ext")];
    const env = { ...process.env, XDG_CONFIG_HOME: home, XDG_DATA_HOME: home, HOME: home, PATH: cleanPath(home) };
    const installed = spawnSync(process.execPath, [...common, "--install-extension", VSIX], { env, encoding: "utf8" });
    if (installed.status !== 0) throw new Error(`the VSIX could not be installed: ${installed.stderr}`);
    const quiet = ["--auth", "none", "--disable-telemetry", "--disable-update-check"];
    const args = [...common, ...quiet];
    const { server, port } = await started(args, env);
    const flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"];
    const browser = await driver.launch({ executablePath: chromium(), args: flags });
    const context = await browser.newContext({ viewport: { width: 1100, height: 700 } });
    context.setDefaultTimeout(PATIENCE_MS);
    return new Workbench(home, server, browser, context, `http://127.0.0.1:${String(port)}/`, machine);
  }

  /** Additional settings for windows opened from now on. */
  configure(user: Settings, machine: Settings): void {
    writeSettings(this.home, { ...QUIET, ...user }, { ...this.machine, ...machine });
  }

  /** A test of a group; skipped if an earlier test of the group failed. */
  step(t: TestContext, name: string, run: () => Promise<void>): Promise<void> {
    if (this.failed.has(t)) return t.test(name, { skip: "a step before it has failed" });
    return t.test(name, async () => {
      try {
        await this.watched(name, run);
      } catch (problem) {
        this.failed.add(t);
        throw problem;
      }
    });
  }

  /** On failure, screenshots of all windows and the messages are kept. */
  async watched(name: string, run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (problem) {
      await this.keepEvidence(name.replaceAll(/\W+/g, "-"));
      throw problem;
    }
  }

  async closeWindows(): Promise<void> {
    for (const page of this.context.pages()) await page.close();
  }

  /** A workspace whose server is `command`, with a recorder in front of it. */
  folder(name: string, files: Readonly<Record<string, string>>, command: readonly string[], settings: object): Folder {
    const folder = path.join(this.home, name);
    const { file: program, transcript } = this.program(name, command);
    mkdirSync(path.join(folder, ".vscode"), { recursive: true });
    const set = (more: Settings): void => {
      const all = { "fim.server.path": program, ...settings, ...more };
      writeFileSync(path.join(folder, ".vscode/settings.json"), JSON.stringify(all));
    };
    set({});
    for (const [file, text] of Object.entries(files)) writeFileSync(path.join(folder, file), text);
    return { path: folder, transcript, set };
  }

  /** Without a command, the program's path does not exist. */
  program(name: string, command: readonly string[]): Program {
    const record = path.join(this.home, `${name}.jsonl`);
    const file = path.join(this.home, `${name}-server`);
    if (command.length > 0) writeProgram(file, [process.execPath, RECORDER, record, ...command]);
    this.records.push(record);
    return { file, transcript: new Transcript(record) };
  }

  /** A workspace of several folders, with settings of its own. */
  severalFolders(name: string, folders: readonly Folder[], settings: object): string {
    const file = path.join(this.home, `${name}.code-workspace`);
    const relative = folders.map((folder) => ({ path: path.relative(this.home, folder.path) }));
    writeFileSync(file, JSON.stringify({ folders: relative, settings }));
    return file;
  }

  /**
   * A window on a folder, or on a workspace that has it, with one of its files open.
   *
   * VS Code gives its extension host 60 s to start, and then does without it for good: the window is drawn,
   * but no extension is started in it, its own neither. On a machine without a free core that happens. Such
   * a window is opened anew; not one that has started our extension and then shows nothing.
   */
  async open(folder: Folder, file: string, workspace?: string): Promise<EditorWindow> {
    const uri = `vscode-remote://${new URL(this.url).host}${path.join(folder.path, file)}`;
    const payload = JSON.stringify([["openFile", uri]]);
    const query = new URLSearchParams(workspace === undefined ? { folder: folder.path, payload } : { workspace, payload });
    for (let tries = 1; ; tries++) {
      const started = this.startsOfOurs();
      const page = await this.context.newPage();
      this.listenTo(page);
      await page.goto(`${this.url}?${query.toString()}`, { waitUntil: "commit" });
      const window = new EditorWindow(page, folder.path);
      const isThere = (): Promise<boolean> => window.status.waitFor({ timeout: OPENS_WITHIN_MS }).then(() => true, () => false);
      if (await isThere()) return window;
      const isOurs = this.startsOfOurs() > started;
      if (isOurs && (await isThere())) return window;
      if (isOurs || tries === WINDOWS) throw new Error("the status bar item is missing");
      process.stderr.write(`workbench: VS Code has started no extension for ${String(OPENS_WITHIN_MS / 1000)} s; the window is opened anew\n`);
      await this.keepEvidence(`no-extensions-${String(tries)}`);
      await page.close();
    }
  }

  /** How often an extension host was asked to start our extension. */
  private startsOfOurs(): number {
    return this.logs("remoteexthost.log").join("\n").split("_doActivateExtension fim-server.").length;
  }

  private listenTo(page: Page): void {
    page.on("console", (message) => {
      if (message.type() !== "error" && message.type() !== "warning") return;
      this.consoleLines.push(`${new Date().toISOString()} ${message.type()}: ${message.text()}`);
    });
  }

  /** The contents of log files whose names contain this, of all windows so far. */
  logs(name: string): string[] {
    const folder = path.join(this.home, "data/logs");
    if (!existsSync(folder)) return [];
    const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((file) => path.basename(file).includes(name) && file.endsWith(".log"));
    return files.map((file) => readFileSync(path.join(folder, file), "utf8"));
  }

  private async keepEvidence(name: string): Promise<void> {
    mkdirSync(OUTPUT, { recursive: true });
    for (const [number, page] of this.context.pages().entries()) {
      await page.screenshot({ path: path.join(OUTPUT, `failed-${name}-${String(number)}.png`) }).catch(() => undefined);
    }
    writeFileSync(path.join(OUTPUT, `failed-${name}-console.txt`), this.consoleLines.join("\n"));
    for (const record of this.records.filter((file) => existsSync(file))) {
      copyFileSync(record, path.join(OUTPUT, `failed-${name}-${path.basename(record)}`));
    }
  }

  async stop(): Promise<void> {
    await this.browser.close();
    const gone = new Promise((resolve) => this.server.once("exit", resolve));
    this.server.kill("SIGTERM");
    await gone;
    // Its extension hosts may still write their last lines.
    rmSync(this.home, { recursive: true, force: true, maxRetries: 50, retryDelay: 200 });
  }
}

function writeSettings(home: string, user: Settings, machine: Settings): void {
  for (const [kind, settings] of Object.entries({ User: user, Machine: machine })) {
    mkdirSync(path.join(home, "data", kind), { recursive: true });
    writeFileSync(path.join(home, "data", kind, "settings.json"), JSON.stringify(settings));
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

/** PATH with the system's programs and our Python, without the user's own fim-server. */
function cleanPath(home: string): string {
  const bin = path.join(home, "bin");
  mkdirSync(bin);
  const base = spawnSync(python(), ["-c", "import sys; print(sys._base_executable)"], { encoding: "utf8" });
  symlinkSync(base.stdout.trim(), path.join(bin, "python3"));
  return [bin, "/usr/bin", "/bin"].join(":");
}

/** Start code-server; retried if it exits by itself. */
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
