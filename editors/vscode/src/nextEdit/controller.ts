/**
 * Proposed edits, one after the other: Tab goes to an edit elsewhere, or accepts one at the cursor;
 * Escape, typing, or leaving the editor or the edit's lines dismisses them.
 *
 * No edit is applied unseen: it can be accepted only while it is shown, and only in the version of the
 * document for which it was computed.
 *
 * Edits that the user asked for are under review: all are drawn, and each is accepted or refused by itself.
 */

import {
  commands,
  type Disposable,
  Position,
  Selection,
  type TextDocument,
  type TextEditor,
  TextEditorRevealType,
  type TextEditorSelectionChangeKind,
  Uri,
  window,
  workspace,
} from "vscode";
import { EditDecorations, rangeOf } from "./decorations";
import { afterwards, endOfLast, type Hunk, type NextEdit, readEdits, spanOf, touches } from "./edits";
import { ReviewLenses } from "./lenses";

const VISIBLE = "fim.nextEdit";
const REVIEW = "fim.review";

export class NextEdits implements Disposable {
  private edits: NextEdit[] = [];
  /** The cursor has been at the first edit: leaving its lines now dismisses it. */
  private reached = false;
  /** The user asked for the edits. */
  private asked = false;
  /** The current changes in the editor are our own. */
  private acting = false;
  /** Keys are processed one after the other, so none is lost while an edit is being applied. */
  private keys: Promise<void> = Promise.resolve();
  private readonly decorations = new EditDecorations();
  private readonly lenses = new ReviewLenses();
  private readonly listeners: Disposable[];

  constructor(
    private readonly execute: (command: string, args: readonly unknown[]) => Promise<void>,
    private readonly rejected: (edit: NextEdit) => Promise<void>,
  ) {
    this.listeners = [
      workspace.onDidChangeTextDocument(({ document, contentChanges }) => {
        if (!this.acting && contentChanges.length > 0 && this.concerns(document)) this.clear();
      }),
      window.onDidChangeActiveTextEditor(() => {
        if (!this.acting) this.clear();
      }),
      window.onDidChangeTextEditorSelection(({ textEditor, kind }) => {
        if (!this.acting && textEditor === window.activeTextEditor) this.follow(textEditor, kind);
      }),
    ];
  }

  /** Show the edits of a `fim/nextEdit` notification; an empty one withdraws the shown edits. */
  propose(params: unknown): void {
    if (this.asked) return;
    this.clear();
    const editor = window.activeTextEditor;
    if (!editor?.selection.isEmpty) return;
    this.edits = readEdits(params).filter((edit) => isCurrent(edit));
    this.show(editor);
  }

  /** Show edits of a document that the user asked for, all at once; returns how many there are. */
  async review(document: TextDocument, params: unknown): Promise<number> {
    this.clear();
    const edits = readEdits(params).filter((edit) => isCurrent(edit) && sameUri(edit, document.uri.toString()));
    const [first] = edits;
    if (first === undefined) return 0;
    const count = edits.length;
    this.acting = true;
    try {
      this.edits = edits;
      this.asked = true;
      void commands.executeCommand("setContext", REVIEW, true);
      await this.jump(first);
    } finally {
      this.acting = false;
    }
    return count;
  }

  /** Accept all edits of a review, as one step of undo. */
  acceptAll(): Promise<void> {
    const done = this.keys.then(async () => {
      const editor = window.activeTextEditor;
      const { edits } = this;
      if (!this.asked || editor === undefined || !edits.every((edit) => isIn(editor, edit) && isCurrent(edit))) return;
      this.acting = true;
      try {
        this.clear();
        const applied = await this.replace(editor, edits.flatMap(({ hunks }) => hunks));
        if (applied) for (const edit of edits) this.report(edit);
      } finally {
        this.acting = false;
      }
    });
    this.keys = done.catch(() => undefined);
    return done;
  }

  /** Tab. */
  accept(): Promise<void> {
    const [seen] = this.edits;
    const done = this.keys.then(() => this.goOrApply(seen));
    this.keys = done.catch(() => undefined);
    return done;
  }

  /** Escape: the server will not propose the shown edit in this place again. In a review, the next one follows. */
  async reject(): Promise<void> {
    const [edit, next] = this.edits;
    if (this.asked && next !== undefined) {
      this.edits = this.edits.slice(1);
      this.acting = true;
      try {
        await this.jump(next);
      } finally {
        this.acting = false;
      }
    } else {
      this.clear();
    }
    if (edit !== undefined) await this.rejected(edit);
  }

  clear(): void {
    if (this.edits.length === 0) return;
    this.edits = [];
    this.reached = false;
    this.finish();
  }

  dispose(): void {
    this.clear();
    this.decorations.dispose();
    this.lenses.dispose();
    for (const listener of this.listeners) listener.dispose();
  }

  private finish(): void {
    if (this.asked) void commands.executeCommand("setContext", REVIEW, false);
    this.asked = false;
    this.lenses.clear();
    this.hide();
  }

  private concerns(document: TextDocument): boolean {
    const uri = document.uri.toString();
    return this.edits.some((edit) => sameUri(edit, uri)) || document === window.activeTextEditor?.document;
  }

  private follow(editor: TextEditor, kind: TextEditorSelectionChangeKind | undefined): void {
    const [edit] = this.edits;
    if (edit === undefined) return;
    const there = isAt(editor, edit);
    if (this.asked) this.show(editor);
    else if (!editor.selection.isEmpty || (this.reached && !there && kind !== undefined)) this.clear();
    else this.show(editor);
  }

  private show(editor: TextEditor): void {
    const [edit] = this.edits;
    if (edit === undefined) {
      this.hide();
      return;
    }
    const there = isAt(editor, edit);
    this.reached ||= there;
    // Before drawing: once the edit is visible, its key must work.
    void commands.executeCommand("setContext", VISIBLE, true);
    const drawn = this.asked ? this.edits.filter((other) => isIn(editor, other)) : [edit];
    if (isIn(editor, edit)) this.decorations.show(editor, drawn.flatMap(({ hunks }) => hunks));
    if (this.asked) this.lenses.show(edit, this.edits.length - 1);
    if (there) this.decorations.hideWay(editor);
    else this.decorations.showWay(editor, edit);
  }

  private hide(): void {
    void commands.executeCommand("setContext", VISIBLE, false);
    this.decorations.clear();
  }

  /** `seen` was shown when the key was pressed; the cursor goes to any other edit without applying it. */
  private async goOrApply(seen: NextEdit | undefined): Promise<void> {
    const [edit] = this.edits;
    const editor = window.activeTextEditor;
    if (edit === undefined || editor === undefined) {
      // The key was pressed before VS Code knew that the edit is gone: treat it as a plain Tab.
      await commands.executeCommand("tab");
      return;
    }
    this.acting = true;
    try {
      if (edit === seen && isAt(editor, edit)) await this.apply(editor, edit);
      else await this.jump(edit);
    } finally {
      this.acting = false;
    }
  }

  private async jump(edit: NextEdit): Promise<void> {
    const document = await workspace.openTextDocument(Uri.parse(edit.textDocument.uri));
    if (!isCurrent(edit)) {
      this.clear();
      return;
    }
    const from = window.activeTextEditor;
    const editor = await window.showTextDocument(document);
    if (from !== undefined) this.decorations.hideWay(from);
    const range = rangeOf(spanOf(edit));
    editor.selection = new Selection(range.start, range.start);
    editor.revealRange(range, TextEditorRevealType.InCenterIfOutsideViewport);
    this.show(editor);
  }

  private async apply(editor: TextEditor, edit: NextEdit): Promise<void> {
    if (!isCurrent(edit)) {
      this.clear();
      return;
    }
    const later = this.edits.slice(1);
    const { version } = editor.document;
    this.decorations.clear();
    if (!(await this.replace(editor, edit.hunks))) {
      this.clear();
      return;
    }
    this.report(edit);
    if (editor.document.version !== version + 1) {
      this.clear(); // typed in the meantime: the later edits refer to another text
      return;
    }
    const end = endOfLast(edit);
    const cursor = new Position(end.line, end.character);
    editor.selection = new Selection(cursor, cursor);
    this.edits = afterwards(edit, later, editor.document.version);
    this.reached = false;
    const [next] = this.edits;
    if (next === undefined) this.finish();
    else if (this.asked) await this.jump(next);
    else this.show(editor);
  }

  private replace(editor: TextEditor, hunks: readonly Hunk[]): Thenable<boolean> {
    return editor.edit((builder) => {
      for (const { range, text } of hunks) builder.replace(rangeOf(range), text);
    });
  }

  /** Tell the server that an edit was accepted; the next key need not wait for the answer. */
  private report({ command }: NextEdit): void {
    if (command !== undefined) void this.execute(command.command, command.arguments ?? []);
  }
}

/** Whether an edit refers to the current text. A document that is not open has no version. */
function isCurrent(edit: NextEdit): boolean {
  const document = workspace.textDocuments.find((open) => sameUri(edit, open.uri.toString()));
  return edit.textDocument.version === null || document?.version === edit.textDocument.version;
}

function isIn(editor: TextEditor, edit: NextEdit): boolean {
  return sameUri(edit, editor.document.uri.toString());
}

function isAt(editor: TextEditor, edit: NextEdit): boolean {
  return isIn(editor, edit) && touches(spanOf(edit), editor.selection.active.line);
}

function sameUri(edit: NextEdit, uri: string): boolean {
  return Uri.parse(edit.textDocument.uri).toString() === uri;
}
