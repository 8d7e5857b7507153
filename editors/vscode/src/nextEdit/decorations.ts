/** The decorations of a proposed edit: in each hunk, removed text is tinted, new text follows it as ghost text. */

import {
  type DecorationOptions,
  type Disposable,
  MarkdownString,
  Range,
  type TextEditor,
  ThemeColor,
  window,
  workspace,
} from "vscode";
import { ghostOf, type Hunk, type NextEdit, type Range as EditRange, spanOf } from "./edits";

export class EditDecorations implements Disposable {
  private readonly removed = window.createTextEditorDecorationType({
    backgroundColor: new ThemeColor("diffEditor.removedTextBackground"),
    textDecoration: "line-through",
  });
  private readonly added = window.createTextEditorDecorationType({
    after: {
      color: new ThemeColor("editorGhostText.foreground"),
      backgroundColor: new ThemeColor("diffEditor.insertedTextBackground"),
      fontStyle: "italic",
    },
  });
  private readonly hint = window.createTextEditorDecorationType({
    after: {
      color: new ThemeColor("editorGhostText.foreground"),
      margin: "0 0 0 2em",
    },
  });

  show(editor: TextEditor, hunks: readonly Hunk[]): void {
    const { document } = editor;
    const removed: DecorationOptions[] = [];
    const added: DecorationOptions[] = [];
    for (const hunk of hunks) {
      const range = rangeOf(hunk.range);
      const hoverMessage = diff(document.getText(range), hunk);
      if (!range.isEmpty) removed.push({ range, hoverMessage });
      const ghost = ghostOf(hunk);
      if (ghost === undefined) continue;
      const at = ghost.position === undefined ? document.lineAt(range.start.line - 1).range.end : range.end;
      added.push({ range: new Range(at, at), hoverMessage, renderOptions: { after: { contentText: ghost.text } } });
    }
    editor.setDecorations(this.removed, removed);
    editor.setDecorations(this.added, added);
  }

  /** Hint beside the cursor: where Tab goes if the edit is elsewhere. */
  showWay(editor: TextEditor, edit: NextEdit): void {
    const line = editor.selection.active.line;
    const end = editor.document.lineAt(line).range.end;
    const contentText = `⇥ ${wayTo(editor, edit)}`;
    editor.setDecorations(this.hint, [{ range: new Range(end, end), renderOptions: { after: { contentText } } }]);
  }

  hideWay(editor: TextEditor): void {
    editor.setDecorations(this.hint, []);
  }

  clear(): void {
    for (const editor of window.visibleTextEditors) {
      for (const type of [this.removed, this.added, this.hint]) editor.setDecorations(type, []);
    }
  }

  dispose(): void {
    for (const type of [this.removed, this.added, this.hint]) type.dispose();
  }
}

export function rangeOf({ start, end }: EditRange): Range {
  return new Range(start.line, start.character, end.line, end.character);
}

function wayTo(editor: TextEditor, edit: NextEdit): string {
  const target = edit.textDocument.uri;
  if (target !== editor.document.uri.toString()) {
    return `edit in ${workspace.asRelativePath(decodeURIComponent(target.split("/").at(-1) ?? ""))}`;
  }
  const { line } = spanOf(edit).start;
  return `edit in line ${String(line + 1)} ${line < editor.selection.active.line ? "↑" : "↓"}`;
}

function diff(removed: string, { text: added }: Hunk): MarkdownString {
  const lines = (text: string, sign: string): string[] =>
    text === "" ? [] : text.split(/\r\n|\r|\n/).map((line) => sign + line);
  return new MarkdownString().appendCodeblock([...lines(removed, "-"), ...lines(added, "+")].join("\n"), "diff");
}
