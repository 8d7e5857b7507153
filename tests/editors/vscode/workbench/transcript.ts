/** The messages between the extension and the server, as logged by the recorder. */

import { existsSync, readFileSync } from "node:fs";

export interface Entry {
  readonly at: number;
  readonly from: "client" | "server";
  readonly message: {
    readonly id?: number | string;
    readonly method?: string;
    readonly params?: Readonly<Record<string, unknown>>;
    readonly result?: unknown;
  };
}

/** A requested inline completion, and the texts of its answer once it has arrived. */
export interface Asked {
  readonly id: number | string;
  readonly at: number;
  readonly line: number;
  readonly character: number;
  readonly triggerKind: number;
  /** The text of the item selected in the editor's own list. */
  readonly selected?: string;
  readonly answeredAt?: number;
  readonly texts?: readonly string[];
  readonly isCancelled: boolean;
}

export class Transcript {
  constructor(private readonly file: string) {}

  entries(): Entry[] {
    if (!existsSync(this.file)) return [];
    const lines = readFileSync(this.file, "utf8").split("\n");
    return lines.slice(0, -1).map((line) => JSON.parse(line) as Entry);
  }

  sent(method: string, from: Entry["from"]): Entry[] {
    return this.entries().filter((entry) => entry.from === from && entry.message.method === method);
  }

  asked(): Asked[] {
    const entries = this.entries();
    const answers = new Map(
      entries
        .filter(({ from, message }) => from === "server" && message.method === undefined)
        .map((entry) => [entry.message.id, entry]),
    );
    const cancelled = new Set(
      entries.filter(({ message }) => message.method === "$/cancelRequest").map(({ message }) => message.params?.id),
    );
    return entries
      .filter(({ message }) => message.method === "textDocument/inlineCompletion")
      .map(({ at, message }) => {
        const params = message.params as unknown as {
          position: { line: number; character: number };
          context: { triggerKind: number; selectedCompletionInfo?: { text: string } };
        };
        const answer = answers.get(message.id);
        const result = answer?.message.result as { items: { insertText: string }[] } | undefined;
        return {
          id: message.id ?? 0,
          at,
          ...params.position,
          triggerKind: params.context.triggerKind,
          ...(params.context.selectedCompletionInfo === undefined ? {} : { selected: params.context.selectedCompletionInfo.text }),
          isCancelled: cancelled.has(message.id),
          ...(answer === undefined ? {} : { answeredAt: answer.at }),
          ...(result === undefined ? {} : { texts: result.items.map((item) => item.insertText) }),
        };
      });
  }
}
