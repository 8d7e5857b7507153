/**
 * Proxy between the extension and a server that logs every message to a file.
 *
 *     node recorder.mjs RECORD.jsonl PROGRAM ARGUMENT…
 *
 * A line of the file: {"at": ms since 1970, "from": "client" | "server", "message": {…}}
 */

import { spawn } from "node:child_process";
import { appendFileSync } from "node:fs";

const [record = "", program = "", ...args] = process.argv.slice(2);
const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });

function recorder(from: "client" | "server"): (chunk: Buffer) => void {
  let rest = Buffer.alloc(0);
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    for (;;) {
      const header = rest.indexOf("\r\n\r\n");
      if (header < 0) return;
      const length = Number(/Content-Length: (\d+)/.exec(rest.toString("latin1", 0, header))?.[1]);
      const end = header + 4 + length;
      if (rest.length < end) return;
      const message: unknown = JSON.parse(rest.toString("utf8", header + 4, end));
      appendFileSync(record, `${JSON.stringify({ at: Date.now(), from, message })}\n`);
      rest = rest.subarray(end);
    }
  };
}

const fromClient = recorder("client");
const fromServer = recorder("server");
process.stdin.on("data", (chunk: Buffer) => {
  fromClient(chunk);
  child.stdin.write(chunk);
});
process.stdin.on("end", () => child.stdin.end());
child.stdin.on("error", () => undefined);
child.stdout.on("data", (chunk: Buffer) => {
  fromServer(chunk);
  process.stdout.write(chunk);
});
process.stdout.on("error", () => undefined);
child.on("exit", (code) => process.exit(code ?? 1));
