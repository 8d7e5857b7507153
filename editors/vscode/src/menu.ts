/** The menu of the status bar item. */

import { commands, ConfigurationTarget, QuickPickItemKind, type QuickPickItem, window, workspace } from "vscode";
import { enable, SECTION } from "./config";
import { ALL, type Enable, isEnabled, toggled } from "./enablement";
import { explain, statusText, type View } from "./state";

interface Entry extends QuickPickItem {
  readonly command?: string;
}

export async function showMenu(view: View): Promise<void> {
  const chosen = await window.showQuickPick(entries(view), {
    title: `fim-server: ${statusText(view).summary}`,
    placeHolder: explain(view),
  });
  if (chosen?.command !== undefined) await commands.executeCommand(chosen.command);
}

function entries(view: View): Entry[] {
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
    { label: "$(question) Why was nothing shown?", command: "fim.why" },
    { label: "", kind: QuickPickItemKind.Separator },
    { label: "$(package) Choose a model…", description: view.model, command: "fim.chooseModel" },
    { label: "$(debug-restart) Restart the server", command: "fim.restart" },
    { label: "$(output) Open the log", command: "fim.showLog" },
  ];
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
