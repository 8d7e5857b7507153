/** The decorations of a proposed edit: removed text is tinted, new text follows it as ghost text. */

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
import { type Change, changeOf, type NextEdit, preview } from "./edits";

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

  show(editor: TextEditor, edit: NextEdit): void {
    const { document } = editor;
    const whole = rangeOf(edit);
    const before = document.getText(whole);
    const change = changeOf(before, edit.text);
    const start = document.offsetAt(whole.start) + change.keptBefore;
    const gone = new Range(document.positionAt(start), document.positionAt(start + change.removed.length));
    const hoverMessage = diff(change);
    editor.setDecorations(this.removed, change.removed === "" ? [] : [{ range: gone, hoverMessage }]);
    const behind: DecorationOptions[] =
      change.added === ""
        ? []
        : [
            {
              range: new Range(gone.end, gone.end),
              hoverMessage,
              renderOptions: { after: { contentText: preview(change.added) } },
            },
          ];
    editor.setDecorations(this.added, behind);
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

export function rangeOf(edit: NextEdit): Range {
  const { start, end } = edit.range;
  return new Range(start.line, start.character, end.line, end.character);
}

function wayTo(editor: TextEditor, edit: NextEdit): string {
  const target = edit.textDocument.uri;
  if (target !== editor.document.uri.toString()) {
    return `edit in ${workspace.asRelativePath(decodeURIComponent(target.split("/").at(-1) ?? ""))}`;
  }
  const { line } = edit.range.start;
  return `edit in line ${String(line + 1)} ${line < editor.selection.active.line ? "↑" : "↓"}`;
}

function diff({ removed, added }: Change): MarkdownString {
  const lines = (text: string, sign: string): string[] =>
    text === "" ? [] : text.split(/\r\n|\r|\n/).map((line) => sign + line);
  return new MarkdownString().appendCodeblock([...lines(removed, "-"), ...lines(added, "+")].join("\n"), "diff");
}
