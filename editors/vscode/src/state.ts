/** The server's state and last answer, and their texts for the user. Independent of VS Code. */

import type { Answer } from "./serverLog";

export type ServerState =
  | { readonly kind: "missing"; readonly remedy: string }
  | { readonly kind: "starting" }
  | { readonly kind: "loading"; readonly what: string; readonly percent: number }
  | { readonly kind: "ready" }
  /** Working, but without suggestions in this document. */
  | { readonly kind: "inactive"; readonly reason: string }
  /** The last request failed; the next one may succeed. */
  | { readonly kind: "troubled"; readonly problem: string }
  | { readonly kind: "failed"; readonly problem: string }
  | { readonly kind: "stopped" };

/** Why the last request did not reach the server, or its result there. */
export type LastAsk =
  | { readonly kind: "none" }
  | { readonly kind: "on demand only" }
  | { readonly kind: "answered"; readonly answer: Answer };

export interface View {
  readonly server: ServerState;
  readonly enabled: boolean;
  readonly language: string | undefined;
  readonly asking: boolean;
  readonly model: string;
  readonly mode: string;
  /** Latency of the last request with a suggestion, in ms, as measured in this editor. */
  readonly latency: number | undefined;
  readonly last: LastAsk;
}

export interface StatusText {
  readonly text: string;
  readonly summary: string;
  readonly severity: "normal" | "warning" | "error";
}

export function statusText(view: View): StatusText {
  const { server } = view;
  switch (server.kind) {
    case "missing":
      return { text: "$(error) fim", summary: `No server: ${server.remedy}`, severity: "error" };
    case "failed":
      return { text: "$(error) fim", summary: server.problem, severity: "error" };
    case "stopped":
      return { text: "$(circle-slash) fim", summary: "The server is stopped", severity: "warning" };
    case "starting":
      return { text: "$(sync~spin) fim", summary: "Starting the server", severity: "normal" };
    case "loading":
      return {
        text: `$(sync~spin) fim ${String(server.percent)} %`,
        summary: server.what,
        severity: "normal",
      };
    case "inactive":
      return { text: "$(circle-slash) fim", summary: server.reason, severity: "normal" };
    case "troubled":
      return { text: "$(warning) fim", summary: server.problem, severity: "warning" };
    case "ready":
      return readyText(view);
  }
}

function readyText(view: View): StatusText {
  if (!view.enabled) {
    const language = view.language === undefined ? "" : ` for ${view.language}`;
    return { text: "$(circle-slash) fim", summary: `Off${language}`, severity: "normal" };
  }
  const icon = view.asking ? "$(loading~spin)" : "$(sparkle)";
  const latency = view.latency === undefined ? "" : ` ${view.latency.toFixed(0)} ms`;
  return { text: `${icon} fim${latency}`, summary: view.asking ? "Thinking" : "Ready", severity: "normal" };
}

/**
 * The state in a `didChangeStatus` notification; undefined if the notification is invalid, or only says
 * that the server is busy with a request, which this editor knows anyway.
 */
export function stateTold(params: unknown): ServerState | undefined {
  if (typeof params !== "object" || params === null) return undefined;
  const { busy, kind, message } = params as Partial<Record<"busy" | "kind" | "message", unknown>>;
  if (typeof message !== "string") return undefined;
  if (kind === "Error") return { kind: "failed", problem: message };
  if (kind === "Warning") return { kind: "troubled", problem: message };
  if (kind === "Inactive") return { kind: "inactive", reason: message };
  if (busy !== true) return { kind: "ready" };
  if (message === "") return undefined;
  const [, what = message, percent = "0"] = /^(.*) \((\d+) %\)$/.exec(message) ?? [];
  return { kind: "loading", what, percent: Number(percent) };
}

/** The reasons in the server's `completion/silence.py`, as texts for the user. */
const SILENCES: Readonly<Record<string, string>> = {
  loading: "the model was still being loaded.",
  no_model: "the model could not be loaded. The log says why.",
  bad_params: "the server could not read the request. This is a mistake of the extension; please report it.",
  unknown_document: "the server has lost track of this document. Close and open it again.",
  selected_item_elsewhere: "the item selected in the list does not stand at the cursor.",
  stale: "the text changed before the answer was there. Wait a moment at the cursor.",
  superseded: "a newer request took its place.",
  cancelled: "the editor took the request back, as it does when typing goes on.",
  backend_error: "the model failed on this request. The log says how.",
  language_disabled: "this language is switched off.",
  excluded: "the model must not see this document.",
  nothing_written: "the model gave no answer.",
  blank: "the model had nothing to put between the text before and after the cursor.",
  low_confidence: "the model is less sure than fim.minConfidence asks for.",
  out_of_scope: "what the model wrote belongs behind the end of this block.",
  nothing_left_after_trimming: "all that the model wrote stands around the cursor already.",
  unbalanced: "it would break the brackets or quotes of this line.",
  mid_word: "the cursor is inside a word that the answer does not complete.",
  repeats_next_lines: "it would only say what the next lines say.",
  repeats_previous_lines: "it would only say what the lines before it say.",
  internal_error: "of a mistake of the server. The log says where.",
};

/** One sentence that says why there was no suggestion. */
export function explain(view: View): string {
  const { server, last } = view;
  if (server.kind !== "ready" && server.kind !== "inactive" && server.kind !== "troubled") return `Nothing was shown: ${statusText(view).summary}.`.replace("..", ".");
  if (!view.enabled) {
    const language = view.language === undefined ? "" : ` for ${view.language}`;
    return `Nothing was shown: suggestions are off${language} (setting fim.enable).`;
  }
  switch (last.kind) {
    case "none":
      return "Nothing has been asked for yet: type in a file, or use “fim: Suggest at the Cursor”.";
    case "on demand only":
      return "Nothing was shown: suggestions come only when asked for (setting fim.automatic).";
    case "answered": {
      const { silence, detail, ms } = last.answer;
      const time = `(${detail === undefined ? "" : `${detail}, `}${ms.toFixed(0)} ms)`;
      if (silence === undefined) return `The last answer had something to show ${time}.`;
      return `Nothing was shown because ${SILENCES[silence] ?? `of “${silence}”.`} ${time}`;
    }
  }
}
