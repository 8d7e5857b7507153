"""FIM prompts: a hole in its family's layout, as token ids.

This project's own models read the suffix first (SPM, arXiv 2207.14255): typing appends to the end
of the prompt, so that the KV cache of everything before it stays valid between keystrokes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import PurePosixPath

from fim_model.families.fim_layouts import (
    CANVAS,
    LEFT_TO_RIGHT,
    OWN,
    OWN_LAYOUTS,
    FimLayout,
    Slot,
    named_layout,
)
from fim_model.network.config import ModelConfig
from fim_model.prompt.tokenizer import CodeTokenizer, TokenizerError, well_formed

HEADER_TOKENS = 20
"""Most tokens of a file's name."""

PROMPT_OVERHEAD = HEADER_TOKENS + 4
"""Most tokens of a prompt beyond its budget: the file's name and the four markers."""


@dataclass(frozen=True, slots=True)
class PromptBudget:
    """How many tokens prefix and suffix may take together, and the suffix at most.

    The prefix keeps its end, the suffix its beginning. A prefix that is too long is cut in whole
    multiples of `step`, so that its first token stays where it is for `step` typed tokens and
    cached keys stay valid.
    """

    total: int
    suffix: int
    step: int = 1


@dataclass(frozen=True, slots=True)
class FimPrompt:
    """A layout in the ids of one tokenizer.

    eom: the token that ends a middle; stops: further ones. bos: the id that begins a text.
    blank: the id that stands for an empty text. expand: the id by which a mask asks for another
    one beside it, None where the length of a hole is chosen beforehand.
    """

    layout: FimLayout
    tokenizer: CodeTokenizer
    ids: Mapping[str, int]
    eom: int
    blank: int
    stops: frozenset[int] = frozenset()
    bos: int | None = None
    expand: int | None = None

    @classmethod
    def for_model(cls, config: ModelConfig, tokenizer: CodeTokenizer) -> FimPrompt:
        """The first of the family's layouts that the tokenizer can spell, else LEFT_TO_RIGHT.

        Raises TokenizerError if nothing says how a text of this model ends.
        """
        layouts = config.family.layouts
        if OWN in layouts and tokenizer.has_roles:
            return cls.own(tokenizer, OWN_LAYOUTS[config.fim_layout])
        named = [named_layout(*tokenizer.fim_markers)] if tokenizer.fim_markers else []
        for layout in (*layouts, *named, LEFT_TO_RIGHT):
            if prompt := cls._bind(layout, config, tokenizer):
                return prompt
        raise TokenizerError(
            f"nothing says how a text of this {config.model_type} model ends: the config has no "
            "eos_token_id, and the tokenizer no tokens to ask for a middle; take the config.json "
            "that was published with the model"
        )

    @classmethod
    def own(cls, tokenizer: CodeTokenizer, layout: FimLayout = OWN) -> FimPrompt:
        """A layout that this project trains with."""
        ids = {name: tokenizer.token_id(name) for name in layout.needed}
        found = {name: token_id for name, token_id in ids.items() if token_id is not None}
        special = tokenizer.special
        # Whatever separates the parts of a prompt ends a middle: after it comes no code.
        stops = frozenset(astuple(special)) - {special.eom, special.mask}
        return cls(layout, tokenizer, found, special.eom, special.eot, stops)

    @classmethod
    def _bind(
        cls, layout: FimLayout, config: ModelConfig, tokenizer: CodeTokenizer
    ) -> FimPrompt | None:
        ids = {name: tokenizer.token_id(name) for name in (*layout.needed, *layout.stops)}
        if layout.expand is not None and config.expand_token_id is not None:
            ids[layout.expand] = config.expand_token_id
        found = {name: token_id for name, token_id in ids.items() if token_id is not None}
        ends = [found[layout.end]] if layout.end in found else []
        ends += config.eos_token_ids
        # What separates the parts of a prompt ends a middle, but not one that ends with its masks.
        markers = () if Slot.HOLE in layout.order else layout.needed
        ends += [found[name] for name in (*layout.stops, *markers) if name in found]
        if not found.keys() >= set(layout.needed) or not ends:
            return None
        bos = config.bos_token_id if Slot.START in layout.order else None
        if layout in (LEFT_TO_RIGHT, CANVAS):
            bos = next(iter(tokenizer.begins), None)
        blank = ends[0] if bos is None else bos
        expand = None if layout.expand is None else found[layout.expand]
        return cls(layout, tokenizer, found, ends[0], blank, frozenset(ends[1:]), bos, expand)

    def __call__(self, prefix: str, suffix: str, path: str, budget: PromptBudget) -> list[int]:
        """Token ids whose continuation is the middle.

        Suffix and prefix are tokenised apart, in training as here. Where the layout is joined,
        the prefix must end where `split` says.
        """
        before, after = self.sides(prefix, suffix, path, budget)
        return [*before, *after]

    def sides(
        self, prefix: str, suffix: str, path: str, budget: PromptBudget
    ) -> tuple[list[int], list[int]]:
        """Token ids before the hole, at least one, and behind it; in most layouts none are behind.

        See `__call__`, which joins both.
        """
        suffix_ids = self.tokenizer.encode(suffix)[: budget.suffix] if self.layout.fills else []
        room = budget.total - len(suffix_ids)
        slots: dict[Slot, Sequence[int]] = {
            Slot.START: [] if self.bos is None else [self.bos],
            Slot.FILE: self.file_header(path),
            Slot.SUFFIX: suffix_ids,
            Slot.PREFIX: stepped_tail(self.tokenizer.encode_opening(prefix), room, budget.step),
        }
        order = self.layout.order
        hole = order.index(Slot.HOLE) if Slot.HOLE in order else len(order)
        before, after = (
            [
                token_id
                for part in parts
                for token_id in (slots[part] if isinstance(part, Slot) else [self.ids[part]])
            ]
            for parts in (order[:hole], order[hole + 1 :])
        )
        # A text that is empty needs a token to go on from.
        return before or [self.blank], after

    def split(self, prefix: str) -> tuple[str, str]:
        """The prefix up to its last settled token border, and the rest: the middle's beginning.

        In a joined layout the tokens around the cursor may merge, so the middle is tokenised from
        that border on (token healing). In other layouts the rest is empty.
        """
        if not self.layout.joined:
            return prefix, ""
        prefix = well_formed(prefix)
        at = len(prefix) - self.tokenizer.unsettled(prefix)
        return prefix[:at], prefix[at:]

    def edit(
        self,
        prefix: str,
        old: str,
        suffix: str,
        path: str,
        edits: Sequence[tuple[str, str]],
        budget: PromptBudget,
    ) -> list[int]:
        """Token ids whose continuation is what the region `old` becomes after recent edits.

        `<file> name <edit> old <new> new … <suffix> … <prefix> … <old> region <middle>`. The edits
        are (replaced, by what), oldest first; as many of the latest as fit a third of the budget
        are shown. The region is shown whole, prefix and suffix in what is left, but at least in a
        third. Only this project's own layout has a place for edits; the others raise ValueError.
        """
        if not self.layout.context:
            raise ValueError(f"the layout {self.layout.name} has no place for edits")
        special = self.tokenizer.special
        region = self.tokenizer.encode(old)
        history: list[int] = []
        for before, after in reversed(edits):
            edit = [special.edit, *self.tokenizer.encode(before)]
            edit += [special.new, *self.tokenizer.encode(after)]
            if len(history) + len(edit) > budget.total // 3:
                break
            history = [*edit, *history]
        room = max(budget.total - len(region) - len(history), budget.total // 3)
        around = PromptBudget(room, min(budget.suffix, room // 2), budget.step)
        header = self.file_header(path)
        around_ids = self(prefix, suffix, "", around)
        if not self.layout.joined:
            around_ids.pop()
        return [*header, *history, *around_ids, special.old, *region, special.middle]

    def snippets(self, snippets: Sequence[tuple[str, str]], limit: int) -> list[int]:
        """`<file> path <snippet> text` for each (path, text): the start of a prompt.

        The first ones, whole, as long as they take no more than `limit` tokens together. Only this
        project's own layout has a place for them; the others get none.
        """
        if not self.layout.context:
            return []
        ids: list[int] = []
        mark = self.tokenizer.special.snippet
        for path, text in snippets:
            snippet = [*self.file_header(path), mark, *self.tokenizer.encode(text)]
            if len(ids) + len(snippet) > limit:
                break
            ids += snippet
        return ids

    def plain(self, prefix: str, limit: int) -> list[int]:
        """The prefix alone, at most `limit` tokens of it, as left-to-right text."""
        start = [] if self.bos is None else [self.bos]
        ids = stepped_tail(self.tokenizer.encode_opening(prefix), limit, max(1, limit // 4))
        return [*start, *ids] or [self.blank]

    def file_header(self, path: str) -> list[int]:
        """The file's name and its folder's, or nothing for a document without a path."""
        if not path or self.layout.file is None:
            return []
        name = "/".join(PurePosixPath(path.replace("\\", "/").lstrip("/")).parts[-2:])
        return [self.ids[self.layout.file], *self.tokenizer.encode(name)[-HEADER_TOKENS:]]


def stepped_tail(ids: list[int], limit: int, step: int) -> list[int]:
    """The last ids, at most `limit`, after dropping a multiple of `step` from the start."""
    excess = max(0, len(ids) - limit)
    return ids[-(-excess // step) * step :]
