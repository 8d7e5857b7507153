/**
 * Proposed edits as data. Independent of VS Code.
 *
 * The server sends them as `fim/nextEdit {edits}`; an edit has the shape of those of
 * `textDocument/copilotInlineEdit`, which other clients already support.
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

export interface NextEdit {
  readonly textDocument: { readonly uri: string; readonly version: number | null };
  readonly range: Range;
  readonly text: string;
  /** Command to run in the server when the edit is accepted. */
  readonly command?: Command;
}

/** The part of a replacement that differs from the old text. */
export interface Change {
  /** Number of unchanged characters of the old text before and after the changed part. */
  readonly keptBefore: number;
  readonly keptAfter: number;
  readonly removed: string;
  readonly added: string;
}

/** The edits in a notification; invalid ones are left out. */
export function readEdits(params: unknown): NextEdit[] {
  if (!isObject(params) || !Array.isArray(params.edits)) return [];
  return params.edits.filter(isEdit);
}

export function changeOf(before: string, after: string): Change {
  const shorter = Math.min(before.length, after.length);
  let keptBefore = 0;
  while (keptBefore < shorter && before[keptBefore] === after[keptBefore]) keptBefore++;
  keptBefore = wholeCharacter(before, keptBefore);
  let keptAfter = 0;
  while (keptAfter < shorter - keptBefore && before.at(-1 - keptAfter) === after.at(-1 - keptAfter)) keptAfter++;
  if (isLowSurrogate(before, before.length - keptAfter)) keptAfter--;
  return {
    keptBefore,
    keptAfter,
    removed: before.slice(keptBefore, before.length - keptAfter),
    added: after.slice(keptBefore, after.length - keptAfter),
  };
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
    const range = moved(edit.range, done);
    return range === undefined ? [] : [{ ...edit, textDocument: { ...edit.textDocument, version }, range }];
  });
}

/** The end position of the text that replaced an edit's range. */
export function endOf(edit: NextEdit): Position {
  const lines = edit.text.split(/\r\n|\r|\n/);
  const last = lines.at(-1) ?? "";
  const { start } = edit.range;
  return lines.length === 1
    ? { line: start.line, character: start.character + last.length }
    : { line: start.line + lines.length - 1, character: last.length };
}

export function touches(range: Range, line: number): boolean {
  return range.start.line <= line && line <= range.end.line;
}

/** The moved edit; undefined if both change the same text, so that the later one is obsolete. */
function moved(range: Range, done: NextEdit): Range | undefined {
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

function wholeCharacter(text: string, at: number): number {
  return isLowSurrogate(text, at) ? at - 1 : at;
}

function isLowSurrogate(text: string, at: number): boolean {
  const unit = text.charCodeAt(at);
  return at > 0 && unit >= 0xdc00 && unit <= 0xdfff;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function isPosition(value: unknown): value is Position {
  return isObject(value) && Number.isInteger(value.line) && Number.isInteger(value.character);
}

function isEdit(value: unknown): value is NextEdit {
  if (!isObject(value) || typeof value.text !== "string") return false;
  const { range, textDocument } = value;
  return (
    isObject(range) &&
    isPosition(range.start) &&
    isPosition(range.end) &&
    isObject(textDocument) &&
    typeof textDocument.uri === "string" &&
    (textDocument.version === null || Number.isInteger(textDocument.version))
  );
}
