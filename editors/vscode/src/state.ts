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
  /** Why the last answer was empty, in the server's words; "" if it was not. */
  readonly why: string;
  /** Whether the last answer was made with what was learned from the workspace. */
  readonly adapted: boolean;
  /** Why suggestions are snoozed here; undefined if they are not. */
  readonly snoozed: string | undefined;
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
  if (view.snoozed !== undefined) {
    return { text: "$(bell-slash) fim", summary: capitalized(view.snoozed), severity: "normal" };
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

/** Why the last request had no suggestion, in a `didChangeStatus` notification; undefined if it says nothing. */
export function whyTold(params: unknown): string | undefined {
  const why = (params as { why?: unknown } | null | undefined)?.why;
  return typeof why === "string" ? why : undefined;
}

/** Whether the last answer was made with what was learned from the workspace, in a `didChangeStatus` notification. */
export function adaptedTold(params: unknown): boolean {
  return (params as { adapter?: unknown } | null | undefined)?.adapter === true;
}

/** One sentence that says why there was no suggestion. */
export function explain(view: View): string {
  const { server, last } = view;
  if (server.kind !== "ready" && server.kind !== "inactive" && server.kind !== "troubled") return `Nothing was shown: ${statusText(view).summary}.`.replace("..", ".");
  if (!view.enabled) {
    const language = view.language === undefined ? "" : ` for ${view.language}`;
    return `Nothing was shown: suggestions are off${language} (setting fim.enable).`;
  }
  if (view.snoozed !== undefined) return `Nothing is shown while typing: ${view.snoozed}.`;
  switch (last.kind) {
    case "none":
      return "Nothing has been asked for yet: type in a file, or use “fim: Suggest at the Cursor”.";
    case "on demand only":
      return "Nothing was shown: suggestions come only when asked for (setting fim.automatic).";
    case "answered": {
      const { silence, ms } = last.answer;
      const time = `(${ms.toFixed(0)} ms)`;
      if (silence === undefined) return `The last answer had something to show ${time}.`;
      return `Nothing was shown: ${view.why === "" ? silence : view.why} ${time}.`;
    }
  }
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
