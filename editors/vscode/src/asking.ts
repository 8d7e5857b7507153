/** Middleware between VS Code and the language client: which requests are sent, and their results. */

import { EventEmitter, InlineCompletionList, InlineCompletionTriggerKind, type TextDocument } from "vscode";
import type { Middleware } from "vscode-languageclient/node";
import { automatic, enable } from "./config";
import { isEnabled } from "./enablement";
import { answerIn, type LogLine } from "./serverLog";
import type { LastAsk } from "./state";

type Provide = NonNullable<Middleware["provideInlineCompletionItems"]>;

export class Asking {
  /** Number of pending requests. */
  pending = 0;
  /** Latency of the last request with a suggestion, in ms. */
  latency: number | undefined;
  last: LastAsk = { kind: "none" };
  private readonly changed = new EventEmitter<void>();
  readonly onDidChange = this.changed.event;

  constructor(private readonly snoozed: (document: TextDocument) => boolean) {}

  readonly provide: Provide = async (document, position, context, token, next) => {
    if (!isEnabled(enable(document), document.languageId)) return undefined;
    if (context.triggerKind === InlineCompletionTriggerKind.Automatic && this.snoozed(document)) return undefined;
    if (context.triggerKind === InlineCompletionTriggerKind.Automatic && !automatic()) {
      this.last = { kind: "on demand only" };
      this.changed.fire();
      return undefined;
    }
    const began = performance.now();
    this.pending++;
    this.changed.fire();
    try {
      const result = await next(document, position, context, token);
      const count = (result instanceof InlineCompletionList ? result.items : (result ?? [])).length;
      if (count > 0) this.latency = performance.now() - began;
      return result;
    } finally {
      this.pending--;
      this.changed.fire();
    }
  };

  /** The server logs every answer, with the reason if there is nothing to show. */
  takeLine(line: LogLine): void {
    const answer = answerIn(line.text);
    if (answer === undefined) return;
    this.last = { kind: "answered", answer };
    this.changed.fire();
  }
}
