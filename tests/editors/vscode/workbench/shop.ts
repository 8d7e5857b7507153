/** A source file for the real model, and the latency from a key to its ghost text. */

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { model, OUTPUT } from "./places";
import type { Transcript } from "./transcript";
import { type EditorWindow, until } from "./window";
import { type Folder, realServer, type Workbench } from "./workbench";

export const FILE = "shop.py";
const START = `import os
import sys


class Shop:
    def __init__(self, name, prices):
        self.name = name
        self.prices = prices

    def total(self, names):
        result = 0
        for name in names:
            result += self.prices[name]
        return result

`;
/** A small model may be silent after some of these, but not after all. */
export const OPENINGS = ["    def __init__(self, name", "    def add(self, na", "        self.na", "import o", "for name in na"];

/** A window on a folder with the file, and the server with the model that ships. */
export async function openShop(workbench: Workbench, name: string): Promise<{ window: EditorWindow; folder: Folder }> {
  const settings = { "fim.backend": "in_process", "fim.model": model(), "fim.threads": 1, "fim.maxTokens": 16, "fim.minConfidence": 0, "fim.prefixChars": 400 };
  const folder = workbench.folder(name, { [FILE]: START }, realServer(), settings);
  return { window: await workbench.open(folder, FILE), folder };
}

/** Wait for the answer to a later request in a column, and until its text ("" if empty) is shown. */
export async function settled(window: EditorWindow, transcript: Transcript, later: number, column: number): Promise<string> {
  let text = "";
  await until(`an answer in column ${String(column)}, and its text on the screen`, async () => {
    const last = transcript.asked().slice(later).at(-1);
    if (last?.character !== column || last.answeredAt === undefined || last.isCancelled) return false;
    text = last.texts?.[0] ?? "";
    return (await window.ghost()) === text;
  });
  return text;
}

const ROUNDS = Number(process.env.FIM_LATENCY_ROUNDS ?? "1");

/**
 * Type the openings at full speed, and write p50 and p95 from their last key to the picture, and of the
 * server's part of it, as JSON. Asserts no time.
 */
export async function measure(window: EditorWindow, transcript: Transcript): Promise<void> {
  const total: number[] = [];
  const server: number[] = [];
  const watch = await window.watchGhost();
  for (const opening of Array.from({ length: ROUNDS }, () => OPENINGS).flat()) {
    await window.focus(FILE);
    await window.press("Escape", "Enter", "Home");
    const asked = transcript.asked().length;
    await window.type(opening);
    if ((await settled(window, transcript, asked, opening.length)) === "") continue;
    const took = await watch.lastKey();
    const last = transcript.asked().at(-1);
    if (took === undefined || last?.answeredAt === undefined) continue;
    total.push(took);
    server.push(last.answeredAt - last.at);
  }
  assert.ok(total.length > 0, "no suggestion was shown in any round");
  const result = {
    editor: "VS Code 1.100.3",
    display: "code-server 4.100.3 in headless Chromium",
    fixed_delay_ms: 50,
    model: path.basename(model()),
    samples: total.length,
    key_to_ghost_ms: percentiles(total),
    server_ms: percentiles(server),
  };
  mkdirSync(OUTPUT, { recursive: true });
  writeFileSync(path.join(OUTPUT, "latency.json"), `${JSON.stringify(result, null, 2)}\n`);
}

function percentiles(values: readonly number[]): { p50: number; p95: number } {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => Math.round(sorted[Math.ceil(share * sorted.length) - 1] ?? NaN);
  return { p50: at(0.5), p95: at(0.95) };
}
