/** The page of the view: it shows what the extension sends, and says what the user does. */

export function page(nonce: string): string {
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'nonce-${nonce}'; script-src 'nonce-${nonce}';">
<style nonce="${nonce}">
  body { display: flex; flex-direction: column; height: 100vh; margin: 0; padding: 0 8px; box-sizing: border-box; }
  #talk { flex: 1; overflow-y: auto; }
  .user { font-weight: bold; margin: 12px 0 4px; }
  .text { white-space: pre-wrap; }
  .about, .note { color: var(--vscode-descriptionForeground); }
  .problem { color: var(--vscode-errorForeground); }
  pre { overflow-x: auto; margin: 6px 0; padding: 6px; border-left: 2px solid var(--vscode-textBlockQuote-border);
        background: var(--vscode-textCodeBlock-background);
        font-family: var(--vscode-editor-font-family); font-size: var(--vscode-editor-font-size); }
  textarea { resize: none; margin: 8px 0; padding: 4px; font: inherit; color: var(--vscode-input-foreground);
             background: var(--vscode-input-background); outline-color: var(--vscode-focusBorder);
             border: 1px solid var(--vscode-input-border, transparent); }
  button { color: var(--vscode-button-foreground); background: var(--vscode-button-background); border: 0; padding: 3px 8px; }
</style>
</head>
<body>
<div id="talk" role="log" aria-live="polite"></div>
<textarea id="question" rows="3" aria-label="Question" placeholder="Ask about the selection or the file (Enter sends, Escape stops or leaves)"></textarea>
<script nonce="${nonce}">
  const host = acquireVsCodeApi();
  const talk = document.getElementById("talk");
  const question = document.getElementById("question");
  function add(parent, kind, name, text) {
    const element = document.createElement(kind);
    element.className = name;
    element.textContent = text;
    parent.append(element);
    return element;
  }
  window.addEventListener("message", ({ data }) => {
    if (data.focus) { question.focus(); return; }
    const follows = talk.scrollTop + talk.clientHeight >= talk.scrollHeight - 4;
    const scrolled = talk.scrollTop;
    talk.replaceChildren();
    for (const turn of data.turns) {
      if (turn.question !== undefined) add(talk, "div", "user", turn.question);
      if (turn.about) add(talk, "div", "about", turn.about);
      for (const piece of turn.pieces) {
        if (!piece.code) { add(talk, "div", "text", piece.text); continue; }
        add(talk, "pre", "code", piece.text);
        if (turn.done) {
          const button = add(talk, "button", "insert", "Show as Diff");
          button.addEventListener("click", () => host.postMessage({ insert: piece.text }));
        }
      }
      if (turn.note) add(talk, "div", "note", turn.note);
      if (turn.problem) add(talk, "div", "problem", turn.problem);
    }
    talk.scrollTop = follows ? talk.scrollHeight : scrolled;
  });
  question.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Escape") host.postMessage({ leave: true });
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      if (question.value.trim() === "") return;
      host.postMessage({ ask: question.value });
      question.value = "";
    }
  });
  host.postMessage({ ready: true });
</script>
</body>
</html>`;
}
