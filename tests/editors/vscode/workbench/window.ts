/** One window of the workbench, as a person uses it: keys in, what is on the screen out. */

import { readFileSync } from "node:fs";
import path from "node:path";
import type { Locator, Page } from "playwright-core";

/** Long, because a busy machine is no failure; nothing waits longer than it must. */
export const PATIENCE_MS = 420_000;
const STEP_MS = 100;
const SAVES_WITHIN_MS = 3000;

export class EditorWindow {
  readonly status: Locator;
  readonly notifications: Locator;

  constructor(
    readonly page: Page,
    private readonly folder: string,
  ) {
    this.status = page.locator("[id='fim-server.fim-server.fim.status'], [id='fim.status']").first();
    this.notifications = page.locator(".notification-toast");
  }

  async close(): Promise<void> {
    await this.page.close();
  }

  /** Open another file of the folder, by its whole path: this workbench has no search for names. */
  async openFile(name: string): Promise<void> {
    await this.press("Control+P");
    await this.page.locator(".quick-input-widget input").first().fill(path.join(this.folder, name));
    await this.pick(name);
    await this.focus(name);
  }

  /** Into the editor of a file that is open, at its very end. The workbench moves the focus while it starts. */
  async focus(name: string): Promise<void> {
    await this.page.locator(`.tab.active[data-resource-name='${name}']`).waitFor();
    const editor = this.page.locator(".editor-instance .monaco-editor.focused");
    await until("the editor to have the focus", async () => {
      await this.press("Control+1");
      return (await editor.count()) > 0;
    });
    await this.press("Control+End");
  }

  async command(title: string): Promise<void> {
    await this.page.keyboard.press("F1");
    await this.page.locator(".quick-input-widget input").first().fill(`>${title}`);
    await this.pick(title);
  }

  /** Take an entry of the list that is open, once it is the one that Enter takes; typing finds it. */
  async pick(label: string): Promise<void> {
    await this.page.locator(".quick-input-list .monaco-list-row.focused", { hasText: label }).waitFor();
    await this.page.keyboard.press("Enter");
  }

  /** The labels of the list that is open. */
  async listed(): Promise<string[]> {
    const labels = await this.page.locator(".quick-input-list .monaco-list-row .label-name").allTextContents();
    return labels.map((label) => plain(label).trim());
  }

  async type(text: string): Promise<void> {
    await this.page.keyboard.type(text);
  }

  /** All at once, where it is not about the keys. */
  async insert(text: string): Promise<void> {
    await this.page.keyboard.insertText(text);
  }

  async press(...keys: string[]): Promise<void> {
    for (const key of keys) await this.page.keyboard.press(key);
  }

  /** The lines that the editor shows, ghost text within them included. */
  async text(): Promise<string> {
    const lines = await this.page.evaluate(() => {
      const shown = [...document.querySelectorAll<HTMLElement>(".editor-instance .view-lines > .view-line")];
      return shown.sort((a, b) => a.offsetTop - b.offsetTop).map((line) => line.textContent);
    });
    return plain(lines.join("\n"));
  }

  /** Wait until the editor shows what `isRight` wants. */
  async shows(what: string, isRight: (text: string) => boolean): Promise<void> {
    await until(what, async () => isRight(await this.text())).catch(async (problem: unknown) => {
      throw new Error(`${String(problem)}; the editor shows ${JSON.stringify(await this.text())}`);
    });
  }

  /** The ghost text as it is drawn, "" if there is none. */
  async ghost(): Promise<string> {
    const [inline, below] = await this.page.evaluate(() => {
      const texts = (selector: string): string[] =>
        [...document.querySelectorAll(selector)].map((element) => element.textContent);
      return [texts(".view-lines .ghost-text-decoration"), texts(".suggest-preview-text .view-line")] as const;
    });
    return plain([inline.join(""), ...below].join("\n"));
  }

  /** Texts that decorations draw behind the real text, all in one. */
  async decorations(): Promise<string> {
    return this.page.evaluate(() => {
      const spans = [...document.querySelectorAll(".view-lines .view-line span")];
      const drawn = spans.map((span) => getComputedStyle(span, "::after").content);
      return drawn.filter((content) => content.startsWith('"')).map((content) => content.slice(1, -1)).join(" ");
    });
  }

  /** Press a key and return the milliseconds until ghost text is painted, by the page's own clock. */
  async keyToGhost(key: string): Promise<number> {
    const watch = await this.page.evaluateHandle(() => ({
      painted: new Promise<number>((resolve) => {
        let began = 0;
        window.addEventListener("keydown", () => (began = performance.now()), { capture: true, once: true });
        const look = (): void => {
          const isThere = document.querySelector(".ghost-text-decoration, .suggest-preview-text") !== null;
          if (began > 0 && isThere) resolve(performance.now() - began);
          else requestAnimationFrame(look);
        };
        look();
      }),
    }));
    await this.type(key);
    return watch.evaluate(({ painted }) => painted);
  }

  async showsGhost(text: string): Promise<void> {
    await until(`the ghost text ${JSON.stringify(text)}`, async () => (await this.ghost()) === text);
  }

  /**
   * The text of a file once it is as `isRight` wants it. The editor saves by itself after each change, but
   * forgets to where changes follow each other closely while it saves: hence the key.
   */
  async saved(name: string, isRight: (text: string) => boolean): Promise<string> {
    const read = (): string => readFileSync(path.join(this.folder, name), "utf8");
    const patience = Date.now() + SAVES_WITHIN_MS;
    return until(`the right text in ${name}`, async () => {
      if (isRight(read())) return read();
      if (Date.now() > patience) await this.press("Control+S");
      return false;
    }).catch((problem: unknown) => {
      throw new Error(`${String(problem)}; it is ${JSON.stringify(read())}`);
    });
  }

  async statusText(): Promise<string> {
    return plain((await this.status.textContent()) ?? "").trim();
  }

  async statusLabel(): Promise<string> {
    return (await this.status.locator("a").first().getAttribute("aria-label")) ?? "";
  }

  async icon(): Promise<string> {
    const name = await this.status.locator(".codicon").first().getAttribute("class");
    return /codicon-([\w-]+)/.exec(name ?? "")?.[1] ?? "";
  }

  /** Click away all notifications. */
  async dismissNotifications(): Promise<void> {
    await this.command("Notifications: Clear All Notifications");
    await this.notifications.first().waitFor({ state: "detached" });
  }
}

/** Wait until `check` gives something that is neither undefined nor false, and return it. */
export async function until<T>(
  what: string,
  check: () => Promise<T | undefined | false> | T | undefined | false,
  patience = PATIENCE_MS,
): Promise<T> {
  const deadline = Date.now() + patience;
  for (;;) {
    const found = await check();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > deadline) throw new Error(`waited ${String(patience / 1000)} s for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, STEP_MS));
  }
}

/** The editor draws blanks as no-break spaces. */
function plain(text: string): string {
  return text.replaceAll("\u00a0", " ").replaceAll("\u200b", "");
}
