/** The server process of this window and its language client, one for all folders. */

import { createInterface } from "node:readline";
import { type CancellationToken, commands, type Disposable, EventEmitter, type ExtensionContext, type LogOutputChannel, window } from "vscode";
import {
  LanguageClient,
  type LanguageClientOptions,
  MessageType,
  type Middleware,
  ShowMessageNotification,
  State,
  type StaticFeature,
} from "vscode-languageclient/node";
import { initializationOptions, serverKeys, serverPath } from "./config";
import { findProgram } from "./program";
import { type LogLine, readLine } from "./serverLog";
import { adaptedTold, type ServerState, stateTold, whyTold } from "./state";

const DOCUMENTS = [{ scheme: "file" }, { scheme: "untitled" }, { scheme: "vscode-vfs" }];

/** Announces what is not in the specification; the server sends it only to clients that know it. */
const announced: StaticFeature = {
  fillClientCapabilities: (capabilities) => {
    capabilities.experimental = { fim: { nextEdit: true, replaceRest: true, status: true, instruct: true } };
  },
  initialize: () => undefined,
  getState: () => ({ kind: "static" }),
  clear: () => undefined,
};

export class Server implements Disposable {
  private client: LanguageClient | undefined;
  private current: ServerState = { kind: "stopped" };
  /** Starts and stops run one after the other, in the order of the calls. */
  private queue: Promise<void> = Promise.resolve();
  private readonly changed = new EventEmitter<ServerState>();
  private readonly logged = new EventEmitter<LogLine>();
  private readonly notified = new EventEmitter<unknown>();
  private readonly answered = new EventEmitter<unknown>();
  private readonly toldWhy = new EventEmitter<string>();
  /** Why the last request had no suggestion, in plain words; "" if it had one. */
  readonly onDidTellWhy = this.toldWhy.event;
  readonly onDidChange = this.changed.event;
  readonly onDidLog = this.logged.event;
  /** The answer to a question, so far. */
  readonly onDidAnswer = this.answered.event;
  readonly onDidProposeEdits = this.notified.event;

  /** Whether the last answer was made with what was learned from the workspace. */
  adapted = false;

  constructor(
    private readonly context: ExtensionContext,
    private readonly log: LogOutputChannel,
    private readonly inline: NonNullable<Middleware["provideInlineCompletionItems"]>,
  ) {}

  get state(): ServerState {
    return this.current;
  }

  start(): Promise<void> {
    return this.enqueue(() => this.launch());
  }

  restart(): Promise<void> {
    return this.enqueue(async () => {
      await this.quit();
      await this.launch();
    });
  }

  stop(): Promise<void> {
    return this.enqueue(() => this.quit());
  }

  dispose(): void {
    void this.stop();
  }

  /** Run a command of the server; failures are logged. */
  async execute(command: string, args: readonly unknown[]): Promise<void> {
    try {
      await this.client?.sendRequest("workspace/executeCommand", { command, arguments: args });
    } catch (problem) {
      this.log.warn(`${command}: ${String(problem)}`);
    }
  }

  /** The server's answer to a request; undefined while no server is running, or if it refuses. */
  async request(method: string, params: unknown): Promise<unknown> {
    try {
      return await this.client?.sendRequest(method, params);
    } catch (problem) {
      this.log.warn(`${method}: ${String(problem)}`);
      return undefined;
    }
  }

  /** The server's answer to what the user asked for. Throws if there is no server, or if it refuses. */
  async ask(method: string, params: unknown, token: CancellationToken): Promise<unknown> {
    if (this.client === undefined) throw new Error("the server is not running");
    return this.client.sendRequest(method, params, token);
  }

  /** Send a notification; dropped while no server is running. */
  async notify(method: string, params: unknown): Promise<void> {
    await this.client?.sendNotification(method, params);
  }

  private enqueue(work: () => Promise<void>): Promise<void> {
    this.queue = this.queue.then(work).catch((problem: unknown) => {
      this.enter({ kind: "failed", problem: String(problem) });
    });
    return this.queue;
  }

  private async launch(): Promise<void> {
    if (this.client !== undefined) return;
    const program = await findProgram(this.context);
    if (program === undefined) {
      const path = serverPath();
      const remedy =
        path === "" ? "install fim-server, or set fim.server.path" : `fim.server.path: ${path} is not a program`;
      this.log.error(remedy);
      this.enter({ kind: "missing", remedy });
      return;
    }
    this.log.info(`starting ${program.file} (found by: ${program.origin})`);
    const client = new LanguageClient(
      "fim",
      "fim-server",
      { command: program.file, args: ["lsp"] },
      this.options(),
    );
    this.client = client;
    client.onDidChangeState(({ newState }) => {
      if (this.client === client) this.follow(newState);
    });
    client.onNotification(ShowMessageNotification.type, ({ type, message }) => {
      this.show(type, message);
    });
    client.onNotification("didChangeStatus", (params: unknown) => {
      const why = whyTold(params);
      if (why !== undefined) this.toldWhy.fire(why);
      this.adapted = adaptedTold(params);
      const state = stateTold(params);
      if (state !== undefined) this.enter(state);
    });
    client.onNotification("fim/answer", (params: unknown) => {
      this.answered.fire(params);
    });
    client.registerFeature(announced);
    client.onNotification("fim/nextEdit", (params: unknown) => {
      this.notified.fire(params);
    });
    try {
      await client.start();
    } catch {
      // The client has already reported this in the log and in a notification.
      this.enter({ kind: "failed", problem: "The server could not be started: see the log" });
    }
  }

  private async quit(): Promise<void> {
    const client = this.client;
    this.client = undefined;
    if (client !== undefined) {
      try {
        await client.dispose();
      } catch (problem) {
        this.log.debug(`the server was gone already: ${String(problem)}`);
      }
    }
    this.enter({ kind: "stopped" });
  }

  private options(): LanguageClientOptions {
    return {
      documentSelector: DOCUMENTS,
      outputChannel: this.log,
      initializationOptions: initializationOptions(serverKeys(this.context)),
      middleware: {
        provideInlineCompletionItems: this.inline,
      },
      stdioOptions: {
        stdout: () => undefined,
        stderr: (stream) => {
          createInterface({ input: stream, crlfDelay: Infinity }).on("line", (line) => {
            this.takeLine(readLine(line));
          });
        },
      },
    };
  }

  private follow(state: State): void {
    // Running does not mean ready: the server reports that itself.
    if (state === State.Running) return;
    if (state === State.Starting) this.enter({ kind: "starting" });
    else if (state === State.StartFailed) this.enter({ kind: "failed", problem: "The server could not be started" });
    else this.enter({ kind: "failed", problem: "The server has stopped: see the log" });
  }

  private takeLine({ level, text }: LogLine): void {
    if (level === "debug") this.log.debug(text);
    else if (level === "info") this.log.info(text);
    else if (level === "warning") this.log.warn(text);
    else this.log.error(text);
    this.logged.fire({ level, text });
  }

  /** Show a message of the server; errors offer remedies as buttons. */
  private show(type: MessageType, message: string): void {
    if (type !== MessageType.Error) {
      void (type === MessageType.Warning
        ? window.showWarningMessage(message)
        : window.showInformationMessage(message));
      return;
    }
    this.enter({ kind: "failed", problem: message });
    void offer(message, { "Choose a Model": "fim.chooseModel", Restart: "fim.restart", "Open the Log": "fim.showLog" });
  }

  private enter(state: ServerState): void {
    this.current = state;
    this.changed.fire(state);
  }
}

/** An error notification whose buttons run commands. */
export async function offer(message: string, buttons: Readonly<Record<string, string>>): Promise<void> {
  const chosen = await window.showErrorMessage(message, ...Object.keys(buttons));
  const command = chosen === undefined ? undefined : buttons[chosen];
  if (command !== undefined) await commands.executeCommand(command);
}
