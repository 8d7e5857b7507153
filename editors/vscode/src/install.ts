/** Installs the server into the extension's private environment: for the CPU or CUDA, also from a wheel. */

import { readdir } from "node:fs/promises";
import path from "node:path";
import { type ExtensionContext, type LogOutputChannel, ProgressLocation, type QuickPickItem, window } from "vscode";
import { serverPackage } from "./config";
import { type Build, createEnvironment } from "./environment";
import { privateEnvironment } from "./program";
import { offer, type Server } from "./server";

interface Choice extends QuickPickItem {
  readonly build?: Build;
}

/** Ask which build to install, install it with progress, and start it. Nothing happens if cancelled. */
export async function install(context: ExtensionContext, log: LogOutputChannel, server: Server): Promise<void> {
  let requirement = await defaultPackage(context);
  let build = await chooseBuild(requirement, true);
  if (build === "wheel") {
    const picked = await window.showOpenDialog({
      title: "A wheel of fim-server",
      openLabel: "Install This",
      filters: { "Python wheels": ["whl"] },
    });
    if (picked?.[0] === undefined) return;
    requirement = `${picked[0].fsPath}[local]`;
    build = await chooseBuild(requirement, false);
  }
  if (build === undefined || build === "wheel") return;
  const chosen: Build = build;
  const folder = privateEnvironment(context);
  await server.stop();
  try {
    await window.withProgress(
      { location: ProgressLocation.Notification, title: "fim-server", cancellable: true },
      (progress, token) => createEnvironment(folder, requirement, chosen, log, progress, token),
    );
  } catch (problem) {
    const message = problem instanceof Error ? problem.message : String(problem);
    log.error(message);
    if (message !== "cancelled") {
      void offer(`${requirement} could not be installed: ${message}`, {
        "Try Again": "fim.install",
        "Open the Log": "fim.showLog",
      });
    }
  }
  await server.start();
}

/** The user's package, or else the wheel in the extension, or else the name on the package index. */
async function defaultPackage(context: ExtensionContext): Promise<string> {
  const set = serverPackage();
  if (set !== "") return set;
  const folder = path.join(context.extensionPath, "dist", "server");
  const files = await readdir(folder).catch(() => []);
  const wheel = files.find((name) => name.endsWith(".whl"));
  return wheel === undefined ? "fim-server[local]" : `${path.join(folder, wheel)}[local]`;
}

async function chooseBuild(requirement: string, offerWheel: boolean): Promise<Build | "wheel" | undefined> {
  const choices: Choice[] = [
    { label: "$(chip) For the CPU", description: "about 1.3 GB on disk; enough for the model that ships", build: "cpu" },
  ];
  if (process.platform !== "darwin") {
    choices.push({ label: "$(zap) For an NVIDIA GPU (CUDA)", description: "about 6 GB on disk", build: "cuda" });
  }
  if (offerWheel) choices.push({ label: "$(file-zip) From a wheel file…", description: "fim_server-….whl" });
  const chosen = await window.showQuickPick(choices, {
    title: "Install fim-server into a private environment",
    placeHolder: path.basename(requirement),
  });
  return chosen === undefined ? undefined : (chosen.build ?? "wheel");
}
