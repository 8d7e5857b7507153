/** Above the edit of a review that is next: what can be done with it, by mouse or by the keys named there. */

import {
  CodeLens,
  type CodeLensProvider,
  type Disposable,
  EventEmitter,
  languages,
  type TextDocument,
  Uri,
} from "vscode";
import { rangeOf } from "./decorations";
import { isMultiline, type NextEdit, spanOf } from "./edits";

export class ReviewLenses implements CodeLensProvider, Disposable {
  private readonly changed = new EventEmitter<void>();
  readonly onDidChangeCodeLenses = this.changed.event;
  private readonly provider = languages.registerCodeLensProvider({ pattern: "**" }, this);
  private uri = "";
  private lenses: CodeLens[] = [];

  show(edit: NextEdit, later: number): void {
    const range = rangeOf(spanOf(edit));
    const lens = (title: string, command: string): CodeLens => new CodeLens(range, { title, command });
    this.uri = Uri.parse(edit.textDocument.uri).toString();
    this.lenses = [
      lens("$(check) Accept (Tab)", "fim.nextEdit.accept"),
      lens("$(close) Refuse (Esc)", "fim.nextEdit.dismiss"),
      ...(later === 0 ? [] : [lens(`$(check-all) Accept This and ${String(later)} More`, "fim.review.acceptAll")]),
      // Ghost text has one line only; the hover at the cursor has all of them.
      ...(isMultiline(edit) ? [lens("$(diff) Show All Lines", "editor.action.showHover")] : []),
    ];
    this.changed.fire();
  }

  clear(): void {
    if (this.lenses.length === 0) return;
    this.lenses = [];
    this.changed.fire();
  }

  provideCodeLenses(document: TextDocument): CodeLens[] {
    return document.uri.toString() === this.uri ? this.lenses : [];
  }

  dispose(): void {
    this.provider.dispose();
    this.changed.dispose();
  }
}
