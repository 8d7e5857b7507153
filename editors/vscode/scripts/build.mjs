// Bundle the extension into one file; with --tests, also the tests and what they start.
import { build } from "esbuild";
import { readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const production = process.argv.includes("--production");

await build({
  entryPoints: [path.join(here, "src/extension.ts")],
  outfile: path.join(here, "dist/extension.js"),
  bundle: true,
  platform: "node",
  target: "node20",
  format: "cjs",
  external: ["vscode"],
  minify: production,
  sourcemap: production ? false : "linked",
});

if (process.argv.includes("--tests")) {
  const tests = path.resolve(here, "../../tests/editors/vscode");
  const entryPoints = readdirSync(tests, { recursive: true })
    .filter((name) => name.endsWith(".test.ts") || path.basename(name) === "recorder.ts")
    .map((name) => path.join(tests, name));
  rmSync(path.join(here, "dist/tests"), { recursive: true, force: true }); // tests that are no more
  await build({
    entryPoints,
    outdir: path.join(here, "dist/tests"),
    outbase: tests,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    outExtension: { ".js": ".mjs" },
    external: ["playwright-core"],
    nodePaths: [path.join(here, "node_modules")],
    sourcemap: "inline",
  });
}
