/** Entry point: creates the parts of the extension and connects them. */

import { readFile } from "node:fs/promises";
import path from "node:path";
import {
  commands,
  type Disposable,
  EventEmitter,
  type ExtensionContext,
  type LogOutputChannel,
  Selection,
  window,
  workspace,
} from "vscode";
import { Asking } from "./asking";
import { showAlternatives } from "./alternatives";
import { enable, SECTION, serverKeys } from "./config";
import { ALL, isEnabled } from "./enablement";
import { install } from "./install";
import { chooseModel, chooseSnooze, showMenu, switchCommands, toggle } from "./menu";
import { AskView } from "./ask/view";
import { Instructions } from "./instructions";
import { NextEdits } from "./nextEdit/controller";
import { offer, Server } from "./server";
import { Snooze } from "./snooze";
import { explain, type ServerState, type View } from "./state";
import { countsIn, inWords } from "./statistics";
import { StatusBar } from "./statusBar";
import { Walkthrough } from "./walkthrough";

/** Delay before a restart: settings often change in groups (a profile, a sync). */
const SETTLE_MS = 300;

export async function activate(context: ExtensionContext): Promise<void> {
  const log = window.createOutputChannel("fim-server", { log: true });
  const changed = new EventEmitter<void>();
  const snooze = new Snooze(() => { changed.fire(); });
  const asking = new Asking((document) => snooze.reason(document.uri.toString(), document.languageId) !== undefined);
  let why = "";
  const server = new Server(context, log, asking.provide);
  const bar = new StatusBar();
  const nextEdits = new NextEdits(
    (command, args) => server.execute(command, args),
    (edit) => server.notify("textDocument/didRejectInlineEdit", { item: edit.sent }),
  );

  const instructions = new Instructions(server, nextEdits);
  const askView = new AskView(server, instructions);
  const walkthrough = new Walkthrough(() => isRunning(server.state));

  const view = (): View => viewOf(server, asking, snooze, why);
  const refresh = (): void => {
    bar.show(view());
  };
  context.subscriptions.push(
    log,
    bar,
    nextEdits,
    askView,
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
    server.onDidTellWhy((told) => {
      why = told;
    }),
    server.onDidProposeEdits((params) => {
      if (view().snoozed === undefined) nextEdits.propose(params);
    }),
    changed,
    changed.event(refresh),
    snooze,
    asking.onDidChange(refresh),
    window.onDidChangeActiveTextEditor(refresh),
    workspace.onDidGrantWorkspaceTrust(() => server.restart()),
    restartOnChange(context, server, refresh),
    ...registerCommands(context, { log, view, server, nextEdits, snooze, instructions, askView }),
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
  readonly view: () => View;
  readonly snooze: Snooze;
  readonly server: Server;
  readonly nextEdits: NextEdits;
  readonly instructions: Instructions;
  readonly askView: AskView;
}

function registerCommands(context: ExtensionContext, parts: Parts): Disposable[] {
  const { log, view, server, nextEdits, snooze, instructions, askView } = parts;
  const table: Record<string, () => unknown> = {
    "fim.menu": async () => showMenu(view(), countsIn(await server.request("fim/statistics", null), "today")),
    "fim.alternatives": () => showAlternatives(server),
    "fim.snooze": () => chooseSnooze(snooze),
    "fim.statistics": () => showStatistics(server),
    "fim.tour": () => openSample(context),
    "fim.openWalkthrough": () =>
      commands.executeCommand("workbench.action.openWalkthrough", `${context.extension.id}#start`, false),
    ...switchCommands(),
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
    "fim.nextEdit.dismiss": () => nextEdits.reject(),
    "fim.edit": () => instructions.edit(),
    "fim.review.acceptAll": () => nextEdits.acceptAll(),
    "fim.review.refuseAll": () => {
      nextEdits.clear();
    },
    "fim.ask": () => askView.focus(),
    "fim.ask.clear": () => {
      askView.clear();
    },
  };
  return Object.entries(table).map(([name, run]) => commands.registerCommand(name, run));
}

function viewOf({ state, adapted }: Server, asking: Asking, snooze: Snooze, why: string): View {
  const document = window.activeTextEditor?.document;
  const settings = workspace.getConfiguration(SECTION);
  const model = settings.get<string | null>("model");
  return {
    server: state,
    enabled: isEnabled(enable(document), document?.languageId ?? ALL),
    language: document?.languageId,
    asking: asking.pending > 0,
    model: model == null || model === "" ? "the one that ships with the server" : model,
    mode: settings.get("mode", ""),
    latency: asking.latency,
    last: asking.last,
    why,
    adapted,
    snoozed: snooze.reason(document?.uri.toString(), document?.languageId),
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

async function showStatistics(server: Server): Promise<void> {
  const answer = await server.request("fim/statistics", null);
  const today = countsIn(answer, "today");
  const total = countsIn(answer, "total");
  if (today === undefined || total === undefined) return;
  void window.showInformationMessage(
    `Accepted today: ${inWords(today)}. In all: ${inWords(total)}. Counted on this machine only (setting fim.statistics).`,
  );
}

/** Open the tour's sample as a document without a file, the cursor where text is missing. */
async function openSample(context: ExtensionContext): Promise<void> {
  const content = await readFile(path.join(context.extensionPath, "media", "tour.py"), "utf8");
  const document = await workspace.openTextDocument({ language: "python", content });
  const editor = await window.showTextDocument(document);
  const end = document.positionAt(content.length);
  editor.selection = new Selection(end, end);
  editor.revealRange(editor.selection);
  // Opening a document is no typing, so VS Code asks nothing by itself.
  await commands.executeCommand("editor.action.inlineSuggest.trigger");
}
