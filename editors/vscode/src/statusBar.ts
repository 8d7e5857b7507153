/** The status bar item: state, last latency and model. */

import { type Disposable, MarkdownString, StatusBarAlignment, type StatusBarItem, ThemeColor, window } from "vscode";
import { statusText, type View } from "./state";

export class StatusBar implements Disposable {
  private readonly item: StatusBarItem;

  constructor() {
    this.item = window.createStatusBarItem("fim.status", StatusBarAlignment.Right, 100);
    this.item.name = "fim-server";
    this.item.command = "fim.menu";
    this.item.show();
  }

  show(view: View): void {
    const { text, summary, severity } = statusText(view);
    this.item.text = text;
    this.item.tooltip = tooltip(summary, view);
    this.item.accessibilityInformation = { label: `fim-server: ${summary}` };
    this.item.backgroundColor =
      severity === "normal" ? undefined : new ThemeColor(`statusBarItem.${severity}Background`);
  }

  dispose(): void {
    this.item.dispose();
  }
}

function tooltip(summary: string, view: View): MarkdownString {
  const tuned = view.adapted ? ", tuned to this workspace" : "";
  const rows = [`**fim-server** – ${summary}`, `Model: ${view.model}${tuned}, mode: ${view.mode}`];
  if (view.latency !== undefined) rows.push(`Last suggestion: ${view.latency.toFixed(0)} ms`);
  if (view.last.kind === "answered" && view.last.answer.cost !== undefined) {
    const { mode, forwards, tokens } = view.last.answer.cost;
    rows.push(`${mode}: ${String(tokens)} tokens in ${String(forwards)} forwards`);
  }
  return new MarkdownString(rows.join("\n\n"));
}
