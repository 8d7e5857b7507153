/** The user's settings in VS Code. */

import { type ConfigurationScope, type ExtensionContext, workspace } from "vscode";
import type { Enable } from "./enablement";

export const SECTION = "fim";

export function enable(scope?: ConfigurationScope): Enable {
  return workspace.getConfiguration(SECTION, scope ?? null).get<Enable>("enable", {});
}

export function automatic(): boolean {
  return workspace.getConfiguration(SECTION).get("automatic", true);
}

export function serverPath(): string {
  return workspace.getConfiguration(SECTION).get("server.path", "").trim();
}

export function serverPackage(): string {
  return workspace.getConfiguration(SECTION).get("server.package", "").trim();
}

/** The names of the server's settings: the generated part of package.json. */
export function serverKeys(context: ExtensionContext): string[] {
  const manifest = context.extension.packageJSON as {
    contributes: { configuration: { title: string; properties: Record<string, unknown> }[] };
  };
  const generated = manifest.contributes.configuration.find((part) => part.title === "Server");
  return Object.keys(generated?.properties ?? {}).map((key) => key.slice(SECTION.length + 1));
}

/**
 * The server's options: only settings that the user has set, so that the server's defaults apply.
 *
 * Its log level is "debug", because the level of the output channel decides what is shown.
 */
export function initializationOptions(keys: readonly string[]): Record<string, unknown> {
  const configuration = workspace.getConfiguration(SECTION);
  const options: Record<string, unknown> = { logLevel: "debug", workspaceTrusted: workspace.isTrusted };
  for (const key of keys) {
    const found = configuration.inspect(key);
    const isSet = [found?.globalValue, found?.workspaceValue, found?.workspaceFolderValue].some(
      (value) => value !== undefined,
    );
    if (isSet) options[key] = configuration.get(key);
  }
  return options;
}
