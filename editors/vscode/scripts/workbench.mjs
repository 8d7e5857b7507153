// Run the workbench tests. If one fails, all of them are run once more: where they pass then, the report
// says FLAKY, and the failures of the first run stay above it.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";

const evidence = path.resolve("../../.cache/vscode-test");
mkdirSync(evidence, { recursive: true });
for (const file of readdirSync(evidence)) {
  if (file.startsWith("failed-")) rmSync(path.join(evidence, file));
}

function run() {
  const options = ["--test", "--test-reporter=spec", "dist/tests/workbench/"];
  return spawnSync(process.execPath, options, { stdio: "inherit" }).status ?? 1;
}

let status = run();
if (status !== 0) {
  console.error(`workbench: FAILED (pictures: ${evidence}/failed-*); all of it once more`);
  status = run();
  if (status === 0) console.error("workbench: FLAKY: failed once and passed when run again; what failed is above");
}
process.exit(status);
