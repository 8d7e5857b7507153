/** The server program that this window uses. */

import { access, constants } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import { type ExtensionContext, workspace } from "vscode";
import { serverPath } from "./config";
import { type Candidate, candidates } from "./discovery";

export function privateEnvironment(context: ExtensionContext): string {
  return path.join(context.globalStorageUri.fsPath, "server");
}

/** The first executable candidate, or undefined. */
export async function findProgram(context: ExtensionContext): Promise<Candidate | undefined> {
  const folders = workspace.isTrusted ? (workspace.workspaceFolders ?? []) : [];
  const places = candidates({
    platform: process.platform,
    env: process.env,
    home: homedir(),
    configured: serverPath(),
    folders: folders.filter((folder) => folder.uri.scheme === "file").map((folder) => folder.uri.fsPath),
    privateEnvironment: privateEnvironment(context),
  });
  for (const place of places) {
    if (await isProgram(place.file)) return place;
  }
  return undefined;
}

async function isProgram(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
