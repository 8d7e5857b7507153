/** Snoozing: for a time, in some files, in some languages, until the window closes. Independent of VS Code. */

export const MINUTE_MS = 60_000;

export class Snooze {
  private until = 0;
  private readonly files = new Set<string>();
  private readonly languages = new Set<string>();
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly changed: () => void) {}

  forMinutes(minutes: number, now = Date.now()): void {
    this.until = now + minutes * MINUTE_MS;
    clearTimeout(this.timer);
    this.timer = setTimeout(this.changed, this.until - Date.now());
    this.timer.unref();
    this.changed();
  }

  file(uri: string): void {
    this.files.add(uri);
    this.changed();
  }

  language(language: string): void {
    this.languages.add(language);
    this.changed();
  }

  wake(): void {
    this.until = 0;
    clearTimeout(this.timer);
    this.files.clear();
    this.languages.clear();
    this.changed();
  }

  /** Why there are no suggestions in a document now; undefined if it is not snoozed. */
  reason(uri: string | undefined, language: string | undefined, now = Date.now()): string | undefined {
    if (now < this.until) {
      const time = new Date(this.until).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      return `snoozed until ${time}`;
    }
    if (uri !== undefined && this.files.has(uri)) return "snoozed in this file";
    if (language !== undefined && this.languages.has(language)) return `snoozed for ${language}`;
    return undefined;
  }

  dispose(): void {
    clearTimeout(this.timer);
  }
}
