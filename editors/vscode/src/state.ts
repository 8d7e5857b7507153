/** What the extension knows about the server and its answers, and how that reads. No VS Code in here. */

import type { Answer } from "./serverLog";

export type ServerState =
  | { readonly kind: "missing"; readonly remedy: string }
  | { readonly kind: "starting" }
  | { readonly kind: "loading"; readonly what: string; readonly percent: number }
  | { readonly kind: "ready" }
  | { readonly kind: "failed"; readonly problem: string }
  | { readonly kind: "stopped" };

/** Why the last request did not even reach the server, or what became of it there. */
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
  /** Milliseconds from the request to the last answer with something to show, as this editor saw it. */
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

/** The reasons of the server's `completion/silence.py`, in a person's words. */
const SILENCES: Readonly<Record<string, string>> = {
  loading: "the model was still being loaded.",
  no_model: "the model could not be loaded. The log says why.",
  bad_params: "the server could not read the request. This is a mistake of the extension; please report it.",
  unknown_document: "the server has lost track of this document. Close and open it again.",
  stale: "the text changed before the answer was there. Wait a moment at the cursor.",
  superseded: "a newer request took its place.",
  cancelled: "the editor took the request back, as it does when typing goes on.",
  backend_error: "the model failed on this request. The log says how.",
  nothing_written: "the model had nothing to put between the text before and after the cursor.",
  nothing_left_after_trimming: "all that the model wrote stands around the cursor already.",
  internal_error: "of a mistake of the server. The log says where.",
};

/** One sentence for the person who asks why there was no suggestion. */
export function explain(view: View): string {
  const { server, last } = view;
  if (server.kind !== "ready") return `Nothing was shown: ${statusText(view).summary}.`.replace("..", ".");
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
      const { silence, ms } = last.answer;
      const time = `(${ms.toFixed(0)} ms)`;
      if (silence === undefined) return `The last answer had something to show ${time}.`;
      return `Nothing was shown because ${SILENCES[silence] ?? `of “${silence}”.`} ${time}`;
    }
  }
}
