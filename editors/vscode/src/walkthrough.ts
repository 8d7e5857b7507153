/**
 * Ticks the walkthrough's step about the server.
 *
 * VS Code ticks a step when its context key *becomes* true after the walkthrough was registered, which is
 * when its page is first asked for; a key that has been true by then never ticks anything in this window.
 * So the key is true only for a moment: whenever the server is running and a page that could be the
 * walkthrough comes to the front, and when the server comes up beside such a page.
 */

import { commands, type Disposable, window } from "vscode";

/** The `onContext` of the step in package.json. */
const FOUND = "fim.serverFound";

export class Walkthrough implements Disposable {
  private readonly listener: Disposable;

  constructor(private readonly isRunning: () => boolean) {
    this.listener = window.tabGroups.onDidChangeTabs(() => {
      this.look();
    });
  }

  look(): void {
    if (this.isRunning() && isPage()) void pulse();
  }

  dispose(): void {
    this.listener.dispose();
  }
}

/** Is a page of VS Code's own in front? Which one it is, an extension cannot know. */
function isPage(): boolean {
  const tab = window.tabGroups.activeTabGroup.activeTab;
  return tab !== undefined && tab.input === undefined;
}

async function pulse(): Promise<void> {
  await commands.executeCommand("setContext", FOUND, true);
  await commands.executeCommand("setContext", FOUND, false);
}
