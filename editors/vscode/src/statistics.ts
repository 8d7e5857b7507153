/** The counts of what was accepted on this machine, as the server tells them. Independent of VS Code. */

export interface Counts {
  readonly accepted: number;
  readonly partly: number;
  readonly characters: number;
  readonly edits: number;
}

/** The counts in an answer to `fim/statistics`; undefined if it has another shape. */
export function countsIn(answer: unknown, when: "today" | "total"): Counts | undefined {
  const counts = (answer as Record<string, Record<string, unknown>> | null | undefined)?.[when];
  if (typeof counts !== "object") return undefined;
  const count = (name: string): number => (typeof counts[name] === "number" ? counts[name] : 0);
  return {
    accepted: count("accepted"),
    partly: count("partly_accepted"),
    characters: count("characters"),
    edits: count("edits_accepted"),
  };
}

/** The counts in words, such as "3 suggestions, 2 in part, 120 characters, 1 edit". */
export function inWords({ accepted, partly, characters, edits }: Counts): string {
  const parts = [plural(accepted, "suggestion")];
  if (partly > 0) parts.push(`${String(partly)} in part`);
  parts.push(plural(characters, "character"));
  if (edits > 0) parts.push(plural(edits, "edit"));
  return parts.join(", ");
}

function plural(count: number, noun: string): string {
  return `${String(count)} ${noun}${count === 1 ? "" : "s"}`;
}
