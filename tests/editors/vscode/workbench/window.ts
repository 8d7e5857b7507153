/** A window of the workbench, driven as by a user: sends keys, reads the screen. */

import { readFileSync } from "node:fs";
import path from "node:path";
import type { Locator, Page } from "playwright-core";

/** Timeout. Long, so that a busy machine does not fail; nothing waits longer than necessary. */
export const PATIENCE_MS = 180_000;
const STEP_MS = 100;
const SAVES_WITHIN_MS = 3000;
/** Interval after which a key press or a search is repeated. */
const TAKES_KEY_WITHIN_MS = 10_000;
const LISTS_WITHIN_MS = 5_000;

export interface GhostWatch {
  /** Milliseconds from the last key to ghost text; undefined if it was already shown, or never. */
  lastKey(): Promise<number | undefined>;
}

export class EditorWindow {
  readonly status: Locator;
  readonly notifications: Locator;
  /** The input field of the open list or path prompt. */
  readonly input: Locator;

  constructor(
    readonly page: Page,
    private readonly folder: string,
  ) {
    this.status = page.locator("[id='fim-server.fim-server.fim.status'], [id='fim.status']").first();
    this.notifications = page.locator(".notification-toast");
    this.input = page.locator(".quick-input-widget .quick-input-box input").first();
  }

  async close(): Promise<void> {
    await this.page.close();
  }

  /** Open another file by its full path, because this workbench cannot search for names. */
  async openFile(name: string): Promise<void> {
    await this.openList("Control+P");
    await this.input.fill(path.join(this.folder, name));
    await this.pick(name);
    await this.focus(name);
  }

  /** Focus the editor of an open file, at its end. The workbench moves the focus while it starts.
  */
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
    await this.openList("F1");
    await this.input.fill(`>${title}`);
    await this.pick(title);
  }

  /** Press a key that opens a list; again if the workbench dropped it, as it may while starting. */
  private async openList(key: string): Promise<void> {
    await until("the list to open", async () => {
      await this.press(key);
      return this.input.waitFor({ timeout: TAKES_KEY_WITHIN_MS }).then(() => true, () => false);
    });
  }

  /** Open the extension's menu, and select an entry. */
  async menu(label: string): Promise<void> {
    await this.openMenu();
    await this.choose(label);
  }

  async openMenu(): Promise<void> {
    await this.status.locator("a").first().click();
    await this.page.locator(".quick-input-list .monaco-list-row").first().waitFor();
  }

  /** Search a list for an entry, and select it. The list may be about to replace another one. */
  async choose(label: string): Promise<void> {
    await until(`“${label}” in the list`, async () => {
      await this.input.fill(label);
      return this.focused(label).waitFor({ timeout: LISTS_WITHIN_MS }).then(() => true, () => false);
    });
    await this.page.keyboard.press("Enter");
  }

  /** Select an entry of the open list, once Enter would select it. */
  async pick(label: string): Promise<void> {
    await this.focused(label).waitFor();
    await this.page.keyboard.press("Enter");
  }

  private focused(label: string): Locator {
    return this.page.locator(".quick-input-list .monaco-list-row.focused", { hasText: label });
  }

  /** The labels of the open list. */
  async listed(): Promise<string[]> {
    const labels = await this.page.locator(".quick-input-list .monaco-list-row .label-name").allTextContents();
    return labels.map((label) => plain(label).trim());
  }

  async type(text: string): Promise<void> {
    await this.page.keyboard.type(text);
  }

  /** Insert a text at once, where single keys do not matter. */
  async insert(text: string): Promise<void> {
    await this.page.keyboard.insertText(text);
  }

  async press(...keys: string[]): Promise<void> {
    for (const key of keys) await this.page.keyboard.press(key);
  }

  /** The lines that the editor shows, including ghost text. */
  async text(): Promise<string> {
    const lines = await this.page.evaluate(() => {
      const shown = [...document.querySelectorAll<HTMLElement>(".editor-instance .view-lines > .view-line")];
      return shown.sort((a, b) => a.offsetTop - b.offsetTop).map((line) => line.textContent);
    });
    return plain(lines.join("\n"));
  }

  /** Wait until `isRight` accepts what the editor shows. */
  async shows(what: string, isRight: (text: string) => boolean): Promise<void> {
    await until(what, async () => isRight(await this.text())).catch(async (problem: unknown) => {
      throw new Error(`${String(problem)}; the editor shows ${JSON.stringify(await this.text())}`);
    });
  }

  /** The ghost text as drawn; "" if there is none. */
  async ghost(): Promise<string> {
    const [inline, below] = await this.page.evaluate(() => {
      const texts = (selector: string): string[] =>
        [...document.querySelectorAll(selector)].map((element) => element.textContent);
      return [texts(".view-lines .ghost-text-decoration"), texts(".suggest-preview-text .view-line")] as const;
    });
    return plain([inline.join(""), ...below].join("\n"));
  }

  /** Texts that decorations draw after the real text, joined. */
  async decorations(): Promise<string> {
    return this.page.evaluate(() => {
      const spans = [...document.querySelectorAll(".view-lines .view-line span")];
      const drawn = spans.map((span) => getComputedStyle(span, "::after").content);
      return drawn.filter((content) => content.startsWith('"')).map((content) => content.slice(1, -1)).join(" ").replaceAll("\u00a0", " ");
    });
  }

  /**
   * From now on, note for each key that finds no ghost text how many milliseconds pass until some is
   * painted, by the page's own clock, if no other key comes before.
   */
  async watchGhost(): Promise<GhostWatch> {
    const watch = await this.page.evaluateHandle(() => {
      const seen: { keys: number; took: number }[] = [];
      const notes = { keys: 0, seen };
      let pressed: number | undefined;
      const isThere = (): boolean => document.querySelector(".ghost-text-decoration, .suggest-preview-text") !== null;
      const down = (): void => {
        notes.keys++;
        pressed = isThere() ? undefined : performance.now();
      };
      const look = (): void => {
        if (pressed !== undefined && isThere()) {
          seen.push({ keys: notes.keys, took: performance.now() - pressed });
          pressed = undefined;
        }
        requestAnimationFrame(look);
      };
      window.addEventListener("keydown", down, { capture: true });
      look();
      return notes;
    });
    return {
      lastKey: () =>
        watch.evaluate(({ keys, seen }) => seen.find((one) => one.keys === keys)?.took),
    };
  }

  /** Collect the texts of all notifications from now on, including short-lived ones. */
  async watchNotifications(): Promise<() => Promise<string>> {
    const told = await this.page.evaluateHandle(() => {
      const texts: string[] = [];
      new MutationObserver(() => {
        for (const toast of document.querySelectorAll(".notification-toast")) texts.push(toast.textContent);
      }).observe(document.body, { subtree: true, childList: true, characterData: true });
      return texts;
    });
    return async () => plain(await told.evaluate((texts) => [...new Set(texts)].join("\n")));
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

  /** Dismiss all notifications. */
  async dismissNotifications(): Promise<void> {
    await this.command("Notifications: Clear All Notifications");
    await this.notifications.first().waitFor({ state: "detached" });
  }
}

/** Wait until `check` returns something other than undefined or false, and return it. */
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
