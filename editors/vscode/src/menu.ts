/** The menu of the status bar item. */

import { commands, ConfigurationTarget, QuickPickItemKind, type QuickPickItem, window, workspace } from "vscode";
import { enable, SECTION } from "./config";
import { ALL, type Enable, isEnabled, toggled } from "./enablement";
import type { Snooze } from "./snooze";
import { type Counts, inWords } from "./statistics";
import { explain, statusText, type View } from "./state";

interface Entry extends QuickPickItem {
  readonly command?: string;
}

export async function showMenu(view: View, today: Counts | undefined): Promise<void> {
  const chosen = await window.showQuickPick(entries(view, today), {
    title: `fim-server: ${statusText(view).summary}`,
    placeHolder: explain(view),
  });
  if (chosen?.command !== undefined) await commands.executeCommand(chosen.command);
}

/** Switches in the menu: settings that are true or false. */
const SWITCHES = { automatic: "Suggest while typing", nextEdits: "Propose next edits" } as const;

function switches(): Entry[] {
  const configuration = workspace.getConfiguration(SECTION);
  return Object.entries(SWITCHES).map(([key, label]) => ({
    label: `${configuration.get<boolean>(key, true) ? "$(check)" : "$(circle-slash)"} ${label}`,
    description: `fim.${key}`,
    command: `fim.switch.${key}`,
  }));
}

/** The commands of the menu's switches. */
export function switchCommands(): Record<string, () => unknown> {
  return Object.fromEntries(
    Object.keys(SWITCHES).map((key) => [
      `fim.switch.${key}`,
      () => {
        const configuration = workspace.getConfiguration(SECTION);
        return configuration.update(key, !configuration.get<boolean>(key, true), ConfigurationTarget.Global);
      },
    ]),
  );
}

function entries(view: View, today: Counts | undefined): Entry[] {
  const on = enable();
  const { language } = view;
  const install: Entry[] =
    view.server.kind === "missing" ? [{ label: "$(cloud-download) Install the server", command: "fim.install" }] : [];
  const forLanguage: Entry[] =
    language === undefined
      ? []
      : [
          {
            label: isEnabled(on, language) ? `$(circle-slash) Turn off for ${language}` : `$(check) Turn on for ${language}`,
            command: "fim.toggleLanguage",
          },
        ];
  return [
    ...install,
    {
      label: isEnabled(on, ALL) ? "$(circle-slash) Turn suggestions off" : "$(check) Turn suggestions on",
      command: "fim.toggle",
    },
    ...forLanguage,
    {
      label: view.snoozed === undefined ? "$(bell-slash) Snooze…" : "$(bell) Snoozing…",
      description: view.snoozed ?? "5 minutes, 1 hour, this file, this language",
      command: "fim.snooze",
    },
    { label: "$(split-horizontal) Alternatives side by side", command: "fim.alternatives" },
    { label: "$(question) Why was nothing shown?", command: "fim.why" },
    ...(today === undefined
      ? []
      : [{ label: "$(graph) Accepted today", description: inWords(today), command: "fim.statistics" }]),
    { label: "Settings", kind: QuickPickItemKind.Separator },
    ...switches(),
    { label: "$(gear) All settings", command: "fim.settings" },
    { label: "$(package) Choose a model…", description: view.model, command: "fim.chooseModel" },
    { label: "Server", kind: QuickPickItemKind.Separator },
    { label: "$(debug-restart) Restart the server", command: "fim.restart" },
    { label: "$(output) Open the log", command: "fim.showLog" },
    { label: "$(mortar-board) Take the tour", command: "fim.openWalkthrough" },
  ];
}

/** Let the user choose how long, or where, nothing is suggested while typing. */
export async function chooseSnooze(snooze: Snooze): Promise<void> {
  const document = window.activeTextEditor?.document;
  const choices: (QuickPickItem & { readonly run: () => void })[] = [];
  if (snooze.reason(document?.uri.toString(), document?.languageId) !== undefined) {
    choices.push({ label: "$(bell) Wake up now", run: () => { snooze.wake(); } });
  }
  choices.push(
    { label: "For 5 minutes", run: () => { snooze.forMinutes(5); } },
    { label: "For 1 hour", run: () => { snooze.forMinutes(60); } },
  );
  if (document !== undefined) {
    const uri = document.uri.toString();
    const { languageId } = document;
    choices.push(
      { label: "In this file", description: "until the window closes", run: () => { snooze.file(uri); } },
      { label: `For ${languageId}`, description: "until the window closes", run: () => { snooze.language(languageId); } },
    );
  }
  const chosen = await window.showQuickPick(choices, { title: "Snooze suggestions" });
  chosen?.run();
}

/** Toggle suggestions for a language, or for all languages without an entry. */
export async function toggle(language: string): Promise<void> {
  const configuration = workspace.getConfiguration(SECTION);
  const defaults = configuration.inspect<Enable>("enable")?.defaultValue;
  await configuration.update("enable", toggled(enable(), language, defaults), ConfigurationTarget.Global);
}

/** Let the user pick a checkpoint folder, or go back to the model that ships with the server. */
export async function chooseModel(current: string): Promise<void> {
  const choices: (QuickPickItem & { readonly folder: boolean })[] = [
    { label: "$(home) The model that ships with the server", folder: false },
    { label: "$(folder) A folder with a checkpoint…", description: current, folder: true },
  ];
  const chosen = await window.showQuickPick(choices, { title: "Model" });
  if (chosen === undefined) return;
  let model: string | undefined;
  if (chosen.folder) {
    const picked = await window.showOpenDialog({ canSelectFolders: true, canSelectFiles: false, openLabel: "Use This Model" });
    model = picked?.[0]?.fsPath;
    if (model === undefined) return;
  }
  await workspace.getConfiguration(SECTION).update("model", model, ConfigurationTarget.Global);
}
