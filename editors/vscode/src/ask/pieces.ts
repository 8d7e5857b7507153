/** Answers as text and code. Independent of VS Code. */

export interface Piece {
  readonly code: boolean;
  readonly text: string;
}

/** The parts of an answer in Markdown: fenced code blocks, and what is between them. A block without an end,
 * as in an unfinished answer, ends with the text. */
export function piecesOf(answer: string): Piece[] {
  const pieces: Piece[] = [];
  let lines: string[] = [];
  let code = false;
  const close = (): void => {
    const text = lines.join("\n");
    if (code || text.trim() !== "") pieces.push({ code, text: code ? text : text.trim() });
    lines = [];
  };
  for (const line of answer.split(/\r\n|\r|\n/)) {
    if (/^\s*```/.test(line)) {
      close();
      code = !code;
    } else {
      lines.push(line);
    }
  }
  if (lines.length > 0) close();
  return pieces;
}

/** The text of a `fim/answer` notification; undefined if it belongs to another question. */
export function textFor(token: number, params: unknown): string | undefined {
  if (typeof params !== "object" || params === null) return undefined;
  const { token: of, text } = params as { token?: unknown; text?: unknown };
  return of === token && typeof text === "string" ? text : undefined;
}
