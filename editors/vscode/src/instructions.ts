/** Edits by instruction, and code of an answer: the server's hunks are reviewed one by one. */

import { type CancellationToken, ProgressLocation, type TextEditor, window, workspace } from "vscode";
import type { Range } from "./nextEdit/edits";
import type { NextEdits } from "./nextEdit/controller";
import type { Server } from "./server";

export interface Place {
  readonly uri: string;
  readonly version: number;
  readonly range: Range;
  /** For people. */
  readonly name: string;
}

/** The selection of an editor, or its cursor. */
export function placeOf({ document, selection }: TextEditor): Place {
  const { start, end } = selection;
  const file = workspace.asRelativePath(document.uri);
  // A selection that ends before the first character of a line does not have that line.
  const last = end.line > start.line && end.character === 0 ? end.line : end.line + 1;
  const first = start.line + 1;
  const lines = first === last ? String(first) : `${String(first)}–${String(last)}`;
  return {
    uri: document.uri.toString(),
    version: document.version,
    range: {
      start: { line: start.line, character: start.character },
      end: { line: end.line, character: end.character },
    },
    name: selection.isEmpty ? file : `${file}:${lines}`,
  };
}

export class Instructions {
  constructor(
    private readonly server: Server,
    private readonly nextEdits: NextEdits,
  ) {}

  /** Ask what to do with the selected lines, and show what the model makes of them. */
  async edit(): Promise<void> {
    const editor = window.activeTextEditor;
    if (editor === undefined) return;
    const { name, ...place } = placeOf(editor);
    const instruction = await window.showInputBox({
      title: `Edit ${name}`,
      placeHolder: "add type hints",
      prompt: "What to do with the selected lines",
    });
    if (instruction === undefined || instruction.trim() === "") return;
    await this.review(editor, ProgressLocation.Notification, `Editing: ${instruction}`, (token) =>
      this.server.ask(
        "workspace/executeCommand",
        { command: "fim.instruct", arguments: [{ ...place, instruction }] },
        token,
      ),
    );
  }

  /** Show code as a diff: of the selected lines, or below the cursor's line. */
  async insert(text: string): Promise<void> {
    const editor = window.activeTextEditor;
    if (editor === undefined) {
      void window.showInformationMessage("fim: open the file that the code belongs into");
      return;
    }
    const { uri, version, range } = placeOf(editor);
    await this.review(editor, ProgressLocation.Window, "Comparing", (token) =>
      this.server.ask("fim/propose", { textDocument: { uri, version }, range, text }, token),
    );
  }

  private async review(
    editor: TextEditor,
    location: ProgressLocation,
    title: string,
    ask: (token: CancellationToken) => Promise<unknown>,
  ): Promise<void> {
    const { version } = editor.document;
    await window.withProgress({ location, title, cancellable: true }, async (_, token) => {
      try {
        const answer = await ask(token);
        if (token.isCancellationRequested) return;
        if (editor.document.version !== version) throw new Error("the document has changed meanwhile; ask again");
        const shown = await this.nextEdits.review(editor.document, answer);
        if (shown === 0) void window.showInformationMessage("fim: the model would leave these lines as they are");
      } catch (problem) {
        if (!token.isCancellationRequested) void window.showWarningMessage(`fim: ${(problem as Error).message}`);
      }
    });
  }
}
