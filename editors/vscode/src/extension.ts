/** Entry point: creates the parts of the extension and connects them. */

import {
  commands,
  type Disposable,
  type ExtensionContext,
  type LogOutputChannel,
  ProgressLocation,
  window,
  workspace,
} from "vscode";
import { Asking } from "./asking";
import { enable, SECTION, serverKeys, serverPackage } from "./config";
import { ALL, isEnabled } from "./enablement";
import { createEnvironment } from "./environment";
import { chooseModel, showMenu, toggle } from "./menu";
import { NextEdits } from "./nextEdit/controller";
import { privateEnvironment } from "./program";
import { offer, Server } from "./server";
import { explain, type ServerState, type View } from "./state";
import { StatusBar } from "./statusBar";
import { Walkthrough } from "./walkthrough";

/** Delay before a restart: settings often change in groups (a profile, a sync). */
const SETTLE_MS = 300;

export async function activate(context: ExtensionContext): Promise<void> {
  const log = window.createOutputChannel("fim-server", { log: true });
  const asking = new Asking();
  const server = new Server(context, log, asking.provide);
  const bar = new StatusBar();
  const nextEdits = new NextEdits(
    (command, args) => server.execute(command, args),
    (edit) => server.notify("textDocument/didRejectInlineEdit", { item: edit.sent }),
  );

  const walkthrough = new Walkthrough(() => isRunning(server.state));

  const refresh = (): void => {
    bar.show(viewOf(server.state, asking));
  };
  context.subscriptions.push(
    log,
    bar,
    nextEdits,
    server,
    walkthrough,
    server.onDidChange((state) => {
      void commands.executeCommand("setContext", "fim.running", isRunning(state));
      walkthrough.look();
      refresh();
    }),
    server.onDidLog((line) => {
      asking.takeLine(line);
    }),
    server.onDidProposeEdits((params) => {
      nextEdits.propose(params);
    }),
    asking.onDidChange(refresh),
    window.onDidChangeActiveTextEditor(refresh),
    workspace.onDidGrantWorkspaceTrust(() => server.restart()),
    restartOnChange(context, server, refresh),
    ...registerCommands(context, { log, asking, server, nextEdits }),
  );
  refresh();
  await server.start();
  if (server.state.kind === "missing") void offerInstall(server.state.remedy);
}

function isRunning({ kind }: ServerState): boolean {
  return kind === "ready" || kind === "inactive" || kind === "troubled";
}

interface Parts {
  readonly log: LogOutputChannel;
  readonly asking: Asking;
  readonly server: Server;
  readonly nextEdits: NextEdits;
}

function registerCommands(context: ExtensionContext, { log, asking, server, nextEdits }: Parts): Disposable[] {
  const view = (): View => viewOf(server.state, asking);
  const table: Record<string, () => unknown> = {
    "fim.menu": () => showMenu(view()),
    "fim.trigger": () => commands.executeCommand("editor.action.inlineSuggest.trigger"),
    "fim.toggle": () => toggle(ALL),
    "fim.toggleLanguage": () => toggle(window.activeTextEditor?.document.languageId ?? ALL),
    "fim.why": async () => {
      const chosen = await window.showInformationMessage(explain(view()), "Open the Log");
      if (chosen !== undefined) log.show();
    },
    "fim.chooseModel": () => chooseModel(view().model),
    "fim.restart": () => server.restart(),
    "fim.install": () => install(context, log, server),
    "fim.settings": () => commands.executeCommand("workbench.action.openSettings", "fim."),
    "fim.showLog": () => {
      log.show();
    },
    "fim.nextEdit.accept": () => nextEdits.accept(),
    "fim.nextEdit.dismiss": () => {
      nextEdits.reject();
    },
  };
  return Object.entries(table).map(([name, run]) => commands.registerCommand(name, run));
}

function viewOf(server: ServerState, asking: Asking): View {
  const document = window.activeTextEditor?.document;
  const settings = workspace.getConfiguration(SECTION);
  const model = settings.get<string | null>("model");
  return {
    server,
    enabled: isEnabled(enable(document), document?.languageId ?? ALL),
    language: document?.languageId,
    asking: asking.pending > 0,
    model: model == null || model === "" ? "the one that ships with the server" : model,
    mode: settings.get("mode", ""),
    latency: asking.latency,
    last: asking.last,
  };
}

/** Restart the server when its settings change, because it reads them at startup. */
function restartOnChange(context: ExtensionContext, server: Server, refresh: () => void): Disposable {
  const keys = [...serverKeys(context), "server.path"].map((key) => `${SECTION}.${key}`);
  let timer: NodeJS.Timeout | undefined;
  return workspace.onDidChangeConfiguration((event) => {
    refresh();
    if (!keys.some((key) => event.affectsConfiguration(key))) return;
    clearTimeout(timer);
    timer = setTimeout(() => void server.restart(), SETTLE_MS);
  });
}

async function offerInstall(remedy: string): Promise<void> {
  await offer(`fim-server was not found: ${remedy}.`, {
    "Install It": "fim.install",
    Settings: "fim.settings",
    "Try Again": "fim.restart",
  });
}

async function install(context: ExtensionContext, log: LogOutputChannel, server: Server): Promise<void> {
  const requirement = serverPackage();
  const folder = privateEnvironment(context);
  await server.stop();
  try {
    await window.withProgress(
      { location: ProgressLocation.Notification, title: "fim-server", cancellable: true },
      (progress, token) => createEnvironment(folder, requirement, log, progress, token),
    );
  } catch (problem) {
    const message = problem instanceof Error ? problem.message : String(problem);
    log.error(message);
    void offer(`${requirement} could not be installed: ${message}`, { "Open the Log": "fim.showLog" });
  }
  await server.start();
}
