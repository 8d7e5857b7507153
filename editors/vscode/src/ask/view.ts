/** A conversation about the code in the active editor, in a view: needs no other extension. */

import { randomBytes } from "node:crypto";
import {
  CancellationTokenSource,
  commands,
  type Disposable,
  type WebviewView,
  type WebviewViewProvider,
  window,
} from "vscode";
import type { Instructions } from "../instructions";
import { placeOf } from "../instructions";
import type { Server } from "../server";
import { page } from "./page";
import { type Piece, piecesOf, textFor } from "./pieces";

const VIEW = "fim.ask";

interface Turn {
  readonly question: string;
  readonly about: string;
  answer: string;
  problem?: string;
  note?: string;
  done: boolean;
}

export class AskView implements WebviewViewProvider, Disposable {
  private view: WebviewView | undefined;
  private turns: Turn[] = [];
  private asking: CancellationTokenSource | undefined;
  private token = 0;
  /** The page, which is still being loaded, shall take the focus. */
  private wanted = false;
  private readonly parts: Disposable[];

  constructor(
    private readonly server: Server,
    private readonly instructions: Instructions,
  ) {
    this.parts = [
      window.registerWebviewViewProvider(VIEW, this, { webviewOptions: { retainContextWhenHidden: true } }),
      server.onDidAnswer((params) => {
        this.hear(params);
      }),
    ];
  }

  async focus(): Promise<void> {
    this.wanted = true;
    await commands.executeCommand(`${VIEW}.focus`);
    void this.view?.webview.postMessage({ focus: true });
  }

  /** Begin a new conversation. */
  clear(): void {
    this.stop();
    this.turns = [];
    this.show();
  }

  resolveWebviewView(view: WebviewView): void {
    this.view = view;
    view.webview.options = { enableScripts: true, localResourceRoots: [] };
    view.webview.onDidReceiveMessage((said: unknown) => void this.take(said));
    view.onDidDispose(() => {
      this.stop();
      this.wanted = false;
      this.view = undefined;
    });
    view.webview.html = page(randomBytes(16).toString("hex"));
  }

  dispose(): void {
    this.stop();
    for (const part of this.parts) part.dispose();
  }

  private stop(): void {
    this.asking?.cancel();
    this.asking = undefined;
  }

  private async take(said: unknown): Promise<void> {
    const { ask, insert, leave } = said as { ask?: unknown; insert?: unknown; leave?: unknown };
    if (typeof ask === "string") await this.ask(ask);
    else if (typeof insert === "string") await this.instructions.insert(insert);
    else if (leave !== true) this.begin();
    else if (this.asking !== undefined) this.stop();
    else await commands.executeCommand("workbench.action.focusActiveEditorGroup");
  }

  /** The page has been loaded. It takes the focus only if the user came here. */
  private begin(): void {
    this.show();
    if (this.wanted) void this.view?.webview.postMessage({ focus: true });
    this.wanted = false;
  }

  private async ask(question: string): Promise<void> {
    this.stop();
    const source = new CancellationTokenSource();
    this.asking = source;
    const token = ++this.token;
    const editor = window.activeTextEditor;
    const place = editor === undefined ? undefined : placeOf(editor);
    const turn: Turn = { question, about: place?.name ?? "", answer: "", done: false };
    const messages = [
      ...this.turns
        .filter(({ answer }) => answer !== "")
        .flatMap((past) => [
          { role: "user", content: past.question },
          { role: "assistant", content: past.answer },
        ]),
      { role: "user", content: question },
    ];
    this.turns.push(turn);
    this.show();
    try {
      const range = editor?.selection.isEmpty === false ? place?.range : undefined;
      const about = place === undefined ? {} : { textDocument: { uri: place.uri }, ...(range && { range }) };
      const answer = (await this.server.ask("fim/ask", { messages, token, ...about }, source.token)) as { text: string };
      turn.answer = answer.text;
    } catch (problem) {
      if (source.token.isCancellationRequested) turn.note = "Stopped.";
      else turn.problem = (problem as Error).message;
    }
    turn.done = true;
    if (this.asking === source) this.asking = undefined;
    source.dispose();
    this.show();
  }

  private hear(params: unknown): void {
    const text = textFor(this.token, params);
    const turn = this.turns.at(-1);
    if (text === undefined || turn === undefined || turn.done) return;
    turn.answer = text;
    this.show();
  }

  private show(): void {
    const turns = this.turns.map((turn): Omit<Turn, "answer"> & { pieces: Piece[] } => ({
      ...turn,
      pieces: piecesOf(turn.answer),
    }));
    void this.view?.webview.postMessage({ turns });
  }
}
