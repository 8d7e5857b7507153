/** The decorations of a proposed edit: in each hunk, removed text is tinted, new text follows it as ghost text. */

import {
  type DecorationOptions,
  type Disposable,
  MarkdownString,
  Range,
  type TextEditor,
  type TextEditorDecorationType,
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

  /** Without a colour: at the cursor, so that its hover has the whole diff, which ghost text has not. */
  private readonly place = window.createTextEditorDecorationType({});

  show(editor: TextEditor, hunks: readonly Hunk[]): void {
    const { document } = editor;
    const removed: DecorationOptions[] = [];
    const added: DecorationOptions[] = [];
    const places: DecorationOptions[] = [];
    for (const hunk of hunks) {
      const range = rangeOf(hunk.range);
      const hoverMessage = diff(document.getText(range), hunk);
      if (!range.isEmpty) removed.push({ range, hoverMessage });
      else places.push({ range, hoverMessage });
      const ghost = ghostOf(hunk);
      if (ghost === undefined) continue;
      const at = ghost.position === undefined ? document.lineAt(range.start.line - 1).range.end : range.end;
      const contentText = ghost.text.replaceAll(" ", "\u00a0"); // several blanks would be drawn as one
      added.push({ range: new Range(at, at), hoverMessage, renderOptions: { after: { contentText } } });
    }
    editor.setDecorations(this.removed, removed);
    editor.setDecorations(this.added, added);
    editor.setDecorations(this.place, places);
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

  private types(): TextEditorDecorationType[] {
    return [this.removed, this.added, this.place, this.hint];
  }

  clear(): void {
    for (const editor of window.visibleTextEditors) {
      for (const type of this.types()) editor.setDecorations(type, []);
    }
  }

  dispose(): void {
    for (const type of this.types()) type.dispose();
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
    text === "" ? [] : text.replace(/(?:\r\n|\r|\n)$/, "").split(/\r\n|\r|\n/).map((line) => sign + line);
  return new MarkdownString().appendCodeblock([...lines(removed, "-"), ...lines(added, "+")].join("\n"), "diff");
}
