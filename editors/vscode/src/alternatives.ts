/** The panel with all suggestions for the cursor side by side. */

import { randomBytes } from "node:crypto";
import { type Command, type Position, Range, type TextEditor, ViewColumn, window } from "vscode";
import type { Server } from "./server";

interface Item {
  readonly insertText: string;
  readonly command?: Command;
}

/** LSP's InlineCompletionTriggerKind.Invoked. */
const INVOKED = 1;

/** Request suggestions at the cursor and show them; a click or a number key accepts one. */
export async function showAlternatives(server: Server): Promise<void> {
  const editor = window.activeTextEditor;
  if (editor === undefined) return;
  const { document } = editor;
  const position = editor.selection.active;
  const { version } = document;
  const answer = await server.request("textDocument/inlineCompletion", {
    textDocument: { uri: document.uri.toString() },
    position: { line: position.line, character: position.character },
    context: { triggerKind: INVOKED },
  });
  const items = itemsIn(answer);
  if (items.length === 0) {
    void window.showInformationMessage("fim-server has no suggestion here.");
    return;
  }
  const panel = window.createWebviewPanel(
    "fim.alternatives",
    "Alternatives",
    { viewColumn: ViewColumn.Beside, preserveFocus: false },
    { enableScripts: true, localResourceRoots: [] },
  );
  const line = document.lineAt(position.line).text;
  panel.webview.html = page(line.slice(0, position.character), line.slice(position.character), items);
  panel.webview.onDidReceiveMessage(async (index: unknown) => {
    const item = typeof index === "number" ? items[index] : undefined;
    panel.dispose();
    if (item === undefined) return;
    if (document.version !== version) {
      void window.showWarningMessage("The text has changed since these suggestions were made; request them again.");
      return;
    }
    await accept(server, editor, position, item);
  });
}

async function accept(server: Server, editor: TextEditor, position: Position, item: Item): Promise<void> {
  const shown = await window.showTextDocument(editor.document, editor.viewColumn);
  const inserted = await shown.edit((edit) => {
    edit.replace(new Range(position, position), item.insertText);
  });
  if (inserted && item.command !== undefined) {
    await server.execute(item.command.command, item.command.arguments ?? []);
  }
}

function itemsIn(answer: unknown): Item[] {
  const { items } = (answer ?? {}) as { items?: unknown };
  if (!Array.isArray(items)) return [];
  return items.filter((item: Partial<Item> | null): item is Item => typeof item?.insertText === "string");
}

function page(before: string, after: string, items: readonly Item[]): string {
  const nonce = randomBytes(16).toString("base64");
  const columns = items
    .map(
      ({ insertText }, index) => `<button data-index="${String(index)}">
        <span class="number">${String(index + 1)}</span>
        <pre>${escaped(before.trimStart())}<mark>${escaped(insertText)}</mark>${escaped(after)}</pre>
      </button>`,
    )
    .join("\n");
  return `<!DOCTYPE html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta http-equiv="Content-Security-Policy"
        content="default-src 'none'; style-src 'nonce-${nonce}'; script-src 'nonce-${nonce}'">
  <style nonce="${nonce}">
    main { display: grid; grid-template-columns: repeat(auto-fit, minmax(16em, 1fr)); gap: 8px; padding: 8px 0; }
    button { text-align: left; vertical-align: top; border: 1px solid var(--vscode-panel-border); padding: 8px;
      background: var(--vscode-editor-background); color: var(--vscode-editor-foreground); cursor: pointer; }
    button:hover, button:focus { border-color: var(--vscode-focusBorder); }
    pre { font-family: var(--vscode-editor-font-family); font-size: var(--vscode-editor-font-size);
      white-space: pre-wrap; margin: 6px 0 0; }
    mark { background: var(--vscode-diffEditor-insertedTextBackground); color: inherit; }
    .number { color: var(--vscode-descriptionForeground); }
  </style>
</head>
<body>
  <main>${columns}</main>
  <p class="number">Press a number or click to accept, Esc to close.</p>
  <script nonce="${nonce}">
    const vscode = acquireVsCodeApi();
    for (const button of document.querySelectorAll("button"))
      button.addEventListener("click", () => vscode.postMessage(Number(button.dataset.index)));
    addEventListener("keydown", (event) => {
      if (event.key === "Escape") vscode.postMessage(-1);
      if (/^[1-9]$/.test(event.key) && Number(event.key) <= ${String(items.length)}) vscode.postMessage(Number(event.key) - 1);
    });
    document.querySelector("button").focus();
  </script>
</body>
</html>`;
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${String(character.charCodeAt(0))};`);
}
