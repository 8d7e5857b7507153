/** The extension's private virtual environment, for users who have no server yet. */

import { spawn } from "node:child_process";
import { rm } from "node:fs/promises";
import type { CancellationToken, LogOutputChannel, Progress } from "vscode";
import { inEnvironment } from "./discovery";

const NEEDS_PYTHON =
  "Python 3.11 or newer is needed and was not found; install it (python.org, or your system's packages), or set fim.server.path to a fim-server that you have";

/** The first of the usual command names that is a sufficiently new Python. */
async function findPython(log: LogOutputChannel, cancelled: CancellationToken): Promise<string[]> {
  const check = ["-c", "import sys; sys.exit(sys.version_info < (3, 11))"];
  const names =
    process.platform === "win32"
      ? [["py", "-3"], ["python"]]
      : [["python3"], ["python3.14"], ["python3.13"], ["python3.12"], ["python3.11"], ["python"]];
  for (const [program = "", ...rest] of names) {
    try {
      await run(program, [...rest, ...check], log, cancelled);
      return [program, ...rest];
    } catch (problem) {
      if (cancelled.isCancellationRequested) throw problem;
      log.debug(`${program}: not there, or too old`);
    }
  }
  throw new Error(NEEDS_PYTHON);
}

/** A build of torch. */
export type Build = "cpu" | "cuda";

/** PyTorch's own index of CPU builds; the default build for Linux brings gigabytes of CUDA libraries. */
const CPU_INDEX = "https://download.pytorch.org/whl/cpu";

/** Options of `pip install` that select the build: only Linux's default build differs from the CPU's. */
export function buildOptions(build: Build, platform: NodeJS.Platform): string[] {
  return build === "cpu" && platform === "linux" ? ["--extra-index-url", CPU_INDEX] : [];
}

/** Create the environment in `folder` and install `requirement`; on failure, remove it again. */
export async function createEnvironment(
  folder: string,
  requirement: string,
  build: Build,
  log: LogOutputChannel,
  progress: Progress<{ message: string }>,
  cancelled: CancellationToken,
): Promise<void> {
  progress.report({ message: "looking for Python" });
  const [program = "", ...rest] = await findPython(log, cancelled);
  try {
    progress.report({ message: "making a virtual environment" });
    await run(program, [...rest, "-m", "venv", "--clear", folder], log, cancelled);
    progress.report({ message: `installing ${requirement}` });
    const python = inEnvironment(folder, process.platform, "python");
    const pip = ["-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off"];
    await run(python, [...pip, ...buildOptions(build, process.platform), requirement], log, cancelled, (line) => {
      progress.report({ message: line.trim().slice(0, 100) });
    });
  } catch (problem) {
    await rm(folder, { recursive: true, force: true });
    throw problem;
  }
}

/** Run a program to completion. Rejects with its last line if it fails, and when cancelled. */
function run(
  program: string,
  args: readonly string[],
  log: LogOutputChannel,
  cancelled: CancellationToken,
  onLine: (line: string) => void = () => undefined,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    const stop = cancelled.onCancellationRequested(() => child.kill());
    let last = "";
    const take = (chunk: Buffer): void => {
      for (const line of chunk.toString().split(/\r?\n/).filter(Boolean)) {
        log.info(line);
        onLine(line);
        last = line;
      }
    };
    child.stdout.on("data", take);
    child.stderr.on("data", take);
    child.on("error", reject);
    child.on("close", (code) => {
      stop.dispose();
      if (code === 0) resolve();
      else if (cancelled.isCancellationRequested) reject(new Error("cancelled"));
      else reject(new Error(last === "" ? `${program} ended with code ${String(code)}` : last));
    });
  });
}
