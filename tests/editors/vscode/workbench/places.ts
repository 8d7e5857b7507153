/** Paths of the programs under test. A missing one fails with the command that installs it. */

import { accessSync, constants, existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The repository root; the bundled tests are in editors/vscode/dist/tests/workbench. */
export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../../../..");
export const VSIX = path.join(ROOT, "editors/vscode/dist/fim-server.vsix");
export const RECORDER = path.join(ROOT, "editors/vscode/dist/tests/workbench/recorder.mjs");
export const SCRIPTED = path.join(ROOT, "tests/editors/vscode/scripted_edits.py");
export const OUTPUT = path.join(ROOT, ".cache/vscode-test");

export function codeServer(): string {
  const file = path.join(ROOT, ".cache/code-server/4.100.3/node_modules/code-server/out/node/entry.js");
  return needed(file, "code-server", "scripts/setup-vscode");
}

export function chromium(): string {
  const name = process.env.CHROMIUM ?? "chromium";
  const folders = (process.env.PATH ?? "").split(path.delimiter);
  const found = path.isAbsolute(name) ? name : folders.map((folder) => path.join(folder, name)).find(isProgram);
  return needed(found ?? name, "chromium", "sudo apt-get install chromium (or set CHROMIUM)");
}

export function python(): string {
  return needed(process.env.FIM_PYTHON ?? path.join(ROOT, ".venv/bin/python"), "the server's Python", "make env");
}

/** The model that ships, or the checkpoint that FIM_TEST_MODEL names. */
export function model(): string {
  const file = process.env.FIM_TEST_MODEL ?? path.join(ROOT, "model/fim_model/checkpoints/default");
  needed(path.join(file, "config.json"), "a trained checkpoint", "FIM_TEST_MODEL=FOLDER make test-vscode");
  return file;
}

function needed(file: string, what: string, remedy: string): string {
  if (!existsSync(file)) throw new Error(`${what} is missing (${file}); get it with: ${remedy}`);
  return file;
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
