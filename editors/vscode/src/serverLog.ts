/**
 * Parser for the server's log on stderr, one line at a time.
 *
 * The server logs at level "debug", and the output channel's level decides what is shown. It logs one
 * line for every answer, without the user's text, from which we learn why nothing was shown.
 */

export type Level = "debug" | "info" | "warning" | "error";

export interface LogLine {
  readonly level: Level;
  readonly text: string;
}

export interface Answer {
  readonly ms: number;
  /** Why there is nothing to show; undefined if there is something. */
  readonly silence?: string;
  /** Details of the reason, if it has any: a rule, a language. */
  readonly detail?: string;
  /** Present if a model was asked. */
  readonly cost?: { readonly mode: string; readonly forwards: number; readonly tokens: number };
}

const LINE = /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) (\S+: .*)$/;
const NOTHING = /inline completion: nothing \((\w+)(?:: (.*))?\), ([\d.]+) ms$/;
const ITEMS = /inline completion: \d+ items, ([\d.]+) ms(?: \((\w+), (\d+) forwards, (\d+) tokens\))?$/;

/** The level of a line; lines in another format (tracebacks, output of libraries) are warnings. */
export function readLine(line: string): LogLine {
  const match = LINE.exec(line);
  if (match === null) return { level: "warning", text: line };
  const level = match[1] === "CRITICAL" ? "error" : (match[1] ?? "").toLowerCase();
  return { level: level as Level, text: match[2] ?? "" };
}

/** The answer that a log line reports; undefined if it reports none. */
export function answerIn(text: string): Answer | undefined {
  const nothing = NOTHING.exec(text);
  if (nothing !== null) {
    const [, silence = "", detail, ms] = nothing;
    return { silence, ...(detail === undefined ? {} : { detail }), ms: Number(ms) };
  }
  const items = ITEMS.exec(text);
  if (items === null) return undefined;
  const ms = Number(items[1]);
  const mode = items[2];
  return mode === undefined ? { ms } : { ms, cost: { mode, forwards: Number(items[3]), tokens: Number(items[4]) } };
}
