/** Candidate paths of the server program, in search order. Independent of VS Code. */

import path from "node:path";

export interface Surroundings {
  readonly platform: NodeJS.Platform;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  /** The path that the user has set, or "". */
  readonly configured: string;
  /** The folders of a trusted workspace; none if restricted, since it could contain its own program. */
  readonly folders: readonly string[];
  /** Folder of this extension's private environment. */
  readonly privateEnvironment: string;
}

export interface Candidate {
  readonly file: string;
  readonly origin: "setting" | "workspace" | "private environment" | "PATH" | "uv tool or pipx";
}

/** All candidates. A configured path is the only one, so that a mistake in it is noticed. */
export function candidates(around: Surroundings): Candidate[] {
  const paths = pathsOf(around.platform);
  if (around.configured !== "") {
    return [{ file: expandHome(around.configured, around.home), origin: "setting" }];
  }
  const program = around.platform === "win32" ? "fim-server.exe" : "fim-server";
  const inFolders = around.folders.flatMap((folder) =>
    [".venv", "venv"].map((name) => inEnvironment(paths.join(folder, name), around.platform)),
  );
  const onPath = (around.env.PATH ?? around.env.Path ?? "")
    .split(paths.delimiter)
    .filter((folder) => paths.isAbsolute(folder))
    .map((folder) => paths.join(folder, program));
  const tools = [around.env.UV_TOOL_BIN_DIR, around.env.XDG_BIN_HOME, around.env.PIPX_BIN_DIR]
    .filter((folder) => folder !== undefined && folder !== "")
    .concat(paths.join(around.home, ".local", "bin"))
    .map((folder) => paths.join(folder ?? "", program));
  return [
    ...inFolders.map((file) => ({ file, origin: "workspace" as const })),
    { file: inEnvironment(around.privateEnvironment, around.platform), origin: "private environment" },
    ...onPath.map((file) => ({ file, origin: "PATH" as const })),
    ...tools.map((file) => ({ file, origin: "uv tool or pipx" as const })),
  ];
}

/** Path of a program in a Python virtual environment. */
export function inEnvironment(environment: string, platform: NodeJS.Platform, program = "fim-server"): string {
  return platform === "win32"
    ? path.win32.join(environment, "Scripts", `${program}.exe`)
    : path.posix.join(environment, "bin", program);
}

function pathsOf(platform: NodeJS.Platform): path.PlatformPath {
  return platform === "win32" ? path.win32 : path.posix;
}

function expandHome(file: string, home: string): string {
  return file === "~" || /^~[\\/]/.test(file) ? home + file.slice(1) : file;
}
