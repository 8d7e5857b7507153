/**
 * Proposed edits as data. Independent of VS Code.
 *
 * The server sends them as `fim/nextEdit {edits}`; an edit has the shape of those of
 * `textDocument/copilotInlineEdit`, which other clients already support, and its hunks.
 */

export interface Position {
  readonly line: number;
  readonly character: number;
}

export interface Range {
  readonly start: Position;
  readonly end: Position;
}

export interface Command {
  readonly title: string;
  readonly command: string;
  readonly arguments?: readonly unknown[];
}

/** A replacement that is shown by itself. */
export interface Hunk {
  readonly range: Range;
  readonly text: string;
}

export interface NextEdit {
  readonly textDocument: { readonly uri: string; readonly version: number | null };
  /** At least one, from the top down, none overlapping; they are accepted together. */
  readonly hunks: readonly Hunk[];
  /** The edit as it was sent, for reports to the server. */
  readonly sent: unknown;
  /** Command to run in the server when the edit is accepted. */
  readonly command?: Command;
}

/** New text of a hunk on one line, at the place where it is shown: after `position`. */
export interface Ghost {
  /** Undefined for the end of the line above the hunk, below which whole lines are inserted. */
  readonly position: Position | undefined;
  readonly text: string;
}

/** The edits in a notification; invalid ones are left out. */
export function readEdits(params: unknown): NextEdit[] {
  if (!isObject(params) || !Array.isArray(params.edits)) return [];
  return params.edits.filter(isSent).map((edit) => ({
    textDocument: edit.textDocument,
    hunks: areHunks(edit.hunks) ? edit.hunks : [{ range: edit.range, text: edit.text }],
    sent: edit,
    ...(edit.command === undefined ? {} : { command: edit.command }),
  }));
}

/** From the start of the first hunk to the end of the last one. */
export function spanOf({ hunks }: NextEdit): Range {
  return { start: firstOf(hunks).range.start, end: lastOf(hunks).range.end };
}

/** Where a hunk's new text is shown. Whole lines are shown where they will be: above the hunk's line. */
export function ghostOf({ range: { start, end }, text }: Hunk): Ghost | undefined {
  if (text === "") return undefined;
  const inserts = start.line === end.line && start.character === end.character;
  const whole = inserts && start.character === 0 && start.line > 0 && /[\r\n]$/.test(text);
  if (!whole) return { position: end, text: preview(text) };
  return { position: undefined, text: preview(`\n${text.replace(/(?:\r\n|\r|\n)$/, "")}`) };
}

/** Whether ghost text would not show all of an edit as it will be. */
export function isMultiline({ hunks }: NextEdit): boolean {
  return hunks.some(({ text }) => /[\r\n]./s.test(text));
}

/** The new text on one line, because a decoration has only one. */
export function preview(added: string, limit = 120): string {
  const line = added.replace(/\r\n|\r|\n/g, "⏎");
  return line.length <= limit ? line : `${line.slice(0, limit - 1)}…`;
}

/** The remaining edits, moved to where they are after `done` was applied as `version`. */
export function afterwards(done: NextEdit, later: readonly NextEdit[], version: number): NextEdit[] {
  return later.flatMap((edit) => {
    if (edit.textDocument.uri !== done.textDocument.uri) return [edit];
    const hunks = edit.hunks.flatMap((hunk) => {
      const range = movedByAll(hunk.range, done.hunks);
      return range === undefined ? [] : [{ ...hunk, range }];
    });
    if (hunks.length < edit.hunks.length) return [];
    return [{ ...edit, textDocument: { ...edit.textDocument, version }, hunks }];
  });
}

/** Where the last hunk's new text ends once all hunks are applied. */
export function endOfLast({ hunks }: NextEdit): Position {
  const last = lastOf(hunks);
  const end = endOf(last);
  return movedByAll({ start: end, end }, hunks.slice(0, -1))?.end ?? end;
}

/** The end position of the text that replaced a hunk's range. */
export function endOf({ range: { start }, text }: Hunk): Position {
  const lines = text.split(/\r\n|\r|\n/);
  const last = lines.at(-1) ?? "";
  return lines.length === 1
    ? { line: start.line, character: start.character + last.length }
    : { line: start.line + lines.length - 1, character: last.length };
}

export function touches(range: Range, line: number): boolean {
  return range.start.line <= line && line <= range.end.line;
}

/** The range after hunks above, around or below it: from the bottom up, so that none of these moves. */
function movedByAll(range: Range, done: readonly Hunk[]): Range | undefined {
  return done.reduceRight<Range | undefined>((now, hunk) => now && moved(now, hunk), range);
}

/** The moved range; undefined if both change the same text, so that the later one is obsolete. */
function moved(range: Range, done: Hunk): Range | undefined {
  if (!isBefore(done.range.start, range.end)) return range;
  if (isBefore(range.start, done.range.end)) return undefined;
  const end = endOf(done);
  const shift = (position: Position): Position => ({
    line: position.line - done.range.end.line + end.line,
    character:
      position.line === done.range.end.line
        ? position.character - done.range.end.character + end.character
        : position.character,
  });
  return { start: shift(range.start), end: shift(range.end) };
}

function isBefore(one: Position, other: Position): boolean {
  return one.line < other.line || (one.line === other.line && one.character < other.character);
}

function firstOf(hunks: readonly Hunk[]): Hunk {
  const [hunk] = hunks;
  if (hunk === undefined) throw new Error("an edit has a hunk");
  return hunk;
}

function lastOf(hunks: readonly Hunk[]): Hunk {
  return hunks.at(-1) ?? firstOf(hunks);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function isPosition(value: unknown): value is Position {
  return isObject(value) && Number.isInteger(value.line) && Number.isInteger(value.character);
}

function isRange(value: unknown): value is Range {
  return isObject(value) && isPosition(value.start) && isPosition(value.end);
}

function isHunk(value: unknown): value is Hunk {
  return isObject(value) && typeof value.text === "string" && isRange(value.range);
}

/** Whether hunks are in order and do not overlap. */
function areHunks(value: unknown): value is Hunk[] {
  if (!Array.isArray(value) || value.length === 0 || !value.every(isHunk)) return false;
  return value.every((hunk, at) => {
    const above = value[at - 1];
    return !isBefore(hunk.range.end, hunk.range.start) && !(above && isBefore(hunk.range.start, above.range.end));
  });
}

interface SentEdit extends Hunk {
  readonly textDocument: NextEdit["textDocument"];
  readonly hunks?: unknown;
  readonly command?: Command;
}

function isSent(value: unknown): value is SentEdit {
  if (!isObject(value) || !isHunk(value)) return false;
  const { textDocument } = value;
  return (
    isObject(textDocument) &&
    typeof textDocument.uri === "string" &&
    (textDocument.version === null || Number.isInteger(textDocument.version))
  );
}
