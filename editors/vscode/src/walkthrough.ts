/**
 * Completes the walkthrough's step about the server.
 *
 * VS Code completes a step when its context key *becomes* true after the walkthrough was registered, which
 * happens when its page is first opened; a key that is already true never completes the step in this
 * window. The key is therefore true only for a moment: whenever the server is running and a page that
 * could be the walkthrough becomes active, and when the server starts while such a page is active.
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

/** Whether one of VS Code's own pages is active; an extension cannot know which one. */
function isPage(): boolean {
  const tab = window.tabGroups.activeTabGroup.activeTab;
  return tab !== undefined && tab.input === undefined;
}

async function pulse(): Promise<void> {
  await commands.executeCommand("setContext", FOUND, true);
  await commands.executeCommand("setContext", FOUND, false);
}
