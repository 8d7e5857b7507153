"""Takes from an answer what is no code: tokens of a model spelled as text, and Markdown fences."""

from __future__ import annotations

import re

_MARKER = re.compile(
    r"<\|[/!]?\w[\w▁ .:-]{0,40}\|>"  # GPT, Qwen, Llama 3, Phi, GLM, DreamOn, our own
    r"|<｜[^｜\n]{1,40}｜>"  # DeepSeek
    r"|<\[[A-Za-z][\w▁ -]{1,40}\]>"  # Seed
    r"|▁?<(?:PRE|SUF|MID|EOT|EOF|AIX-SPAN-[A-Z]+)>"  # Code Llama, aiXcoder
    r"|</?s>|<(?:unk|eos|bos|pad|(?:start|end)_of_turn)>|<(?:unused|SPECIAL_)\d+>"
    r"|<(?i:(?:fim|code)[_▁:-](?:prefix|suffix|middle|pad))>"
    r"|<(?:(?:BOS|EOS|PAD|UNK)_TOKEN|im_(?:start|end)|CURSOR|[se]op|extra_id_\d+|reserved_\d+)>"
    r"|<(?:file_?sep|repo_?name|filename|gh_stars"
    r"|issue_\w+|jupyter_\w+|commit_\w+|empty_output)>"  # StarCoder, Granite, Mellum
    r"|\[/?(?:PREFIX|SUFFIX|MIDDLE|INST|SYSTEM_PROMPT|TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS"
    r"|IMG|IMG_BREAK|IMG_END|THINK)\]"  # Mistral, Codestral, Tekken
    r"|[\x00-\x08\x0b\x0e-\x1f\x7f\ufffd]"  # what no editor shows, and half a character
)
"""A token that begins, separates or ends in some family's prompts, as text, or no text at all."""

_CUT_MARKER = re.compile(r"<\|[A-Za-z]\w{2,40}\|?\Z|<｜[^｜\n]{0,40}\Z")
"""A token that the limit of an answer has cut."""
_PIPES = frozenset(["elm", "fsharp", "ocaml"])
"""Languages with an operator `<|`."""

_THOUGHT = re.compile(r"\A\s*<think>.*?(?:</think>\s*|\Z)", re.DOTALL)
"""What a reasoning model writes before its answer."""

_STRUCK = re.compile(r"</?s>")
"""A tag of HTML too."""
_TAGGED = frozenset(
    ["html", "javascriptreact", "markdown", "php", "svelte", "typescriptreact", "vue", "xml"]
)

_FENCE = re.compile(r"\A\s*(`{3,}|~{3,})[^\n`]*\n")
_FENCED = frozenset(["asciidoc", "markdown", "mdx", "quarto", "restructuredtext", "rmd"])


def without_markers(text: str, around: str, language: str = "") -> str:
    """The text before the first token that is spelled out, and without the fences around it.

    A token that `around`, the document near the cursor, spells too is the user's own text.
    """
    if "<think>" not in around:
        text = _THOUGHT.sub("", text)
    for marker in _MARKER.finditer(text):
        token = marker.group()
        is_tag = language in _TAGGED and _STRUCK.fullmatch(token)
        if token not in around and not is_tag:
            text = text[: marker.start()]
            break
    if language not in _PIPES and "<|" not in around:
        text = _CUT_MARKER.sub("", text)
    return text if language in _FENCED else _without_fences(text)


def _without_fences(text: str) -> str:
    """The code of an answer that is a Markdown code block, as chat models write it."""
    opening = _FENCE.match(text)
    if opening is None:
        return text
    code = text[opening.end() :]
    return code.partition("\n" + opening.group(1))[0] if code.strip("`~\n ") else ""
