import assert from "node:assert/strict";
import { test } from "node:test";
import { candidates, type Surroundings } from "../../../../editors/vscode/src/discovery";

const AROUND: Surroundings = {
  platform: "linux",
  env: { PATH: "/usr/bin::./here:/opt/bin" },
  home: "/home/me",
  configured: "",
  folders: ["/w/a", "/w/b"],
  privateEnvironment: "/storage/server",
};

function files(around: Partial<Surroundings>): string[] {
  return candidates({ ...AROUND, ...around }).map(({ file }) => file);
}

void test("search order: workspace, private environment, PATH, folder of tools", () => {
  assert.deepEqual(files({}), [
    "/w/a/.venv/bin/fim-server",
    "/w/a/venv/bin/fim-server",
    "/w/b/.venv/bin/fim-server",
    "/w/b/venv/bin/fim-server",
    "/storage/server/bin/fim-server",
    "/usr/bin/fim-server",
    "/opt/bin/fim-server",
    "/home/me/.local/bin/fim-server",
  ]);
});

void test("a configured path is the only candidate, so that a wrong one is noticed", () => {
  assert.deepEqual(files({ configured: "~/x/fim-server" }), ["/home/me/x/fim-server"]);
  assert.deepEqual(files({ configured: "~other/fim-server" }), ["~other/fim-server"]);
});

void test("a restricted workspace and relative entries of PATH give no candidates", () => {
  const found = files({ folders: [] });
  assert.ok(found.every((file) => file.startsWith("/")));
  assert.ok(!found.some((file) => file.startsWith("/w/")));
});

void test("uv and pipx can be configured to use another folder", () => {
  const found = files({ env: { UV_TOOL_BIN_DIR: "/uv", PIPX_BIN_DIR: "/pipx" }, folders: [] });
  assert.deepEqual(found.slice(1), ["/uv/fim-server", "/pipx/fim-server", "/home/me/.local/bin/fim-server"]);
});

void test("names and separators on Windows", () => {
  const found = files({ platform: "win32", env: { Path: "C:\\a;D:\\b" }, folders: ["C:\\w"], home: "C:\\me" });
  assert.equal(found[0], "C:\\w\\.venv\\Scripts\\fim-server.exe");
  assert.ok(found.includes("D:\\b\\fim-server.exe"));
});
