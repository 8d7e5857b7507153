"""What a model is asked and what it answers: one vocabulary from the front-end to the core.

Plain values without torch, so that the front-end can import them. A request is checked when it is
made: one that exists can be served, unless the model lacks the mode. JSON is made and read by
`fim_server.engine.wire` alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from fim_model.copies import Copied

Mode = Literal[
    "ar",
    "diffusion",
    "self_speculation",
    "quadratic_speculation",
    "native",
    "lookup",
    "adaptive",
    "auto",
]
"""How a hole is filled. `native` is infilling without FIM training (`decoding/native.py`): another
prompt, and lengths to choose; `auto` is what was measured to be best on this machine."""

MODES: tuple[Mode, ...] = get_args(Mode)

NATIVE: Mode = "native"
AUTO: Mode = "auto"

MAX_TOKENS = 256
"""Longest middle that can be asked for."""

ADAPTER_NAME = re.compile(r"[0-9a-f]{16}")
"""The name of a workspace's adapter: a digest of the workspace's folder."""

ADAPTER_CONFIG, ADAPTER_FILE = "adapter_config.json", "adapter_model.safetensors"
"""The files of an adapter, in a folder of its name, as PEFT names them."""

ROLES = ("system", "user", "assistant")
"""Who speaks in a conversation."""

MAX_ANSWER_TOKENS = 4096
"""Longest answer in a conversation that can be asked for; the model's window may allow less."""

MAX_DRAFTS = 8
"""Drafts of one rewrite."""

DRAFT_WEIGHT = 0.0
"""Nats of evidence for each nat that a draft gains, for a checkpoint that was never measured."""

OWN_PRIOR = -7.0
"""Log-odds, in nats, that what the model writes by itself is right, for such a checkpoint."""

Finish = Literal["eom", "lines", "suffix", "length", "filled", "copied", ""]
"""What ended a hole: the end-of-middle token, the line limit, that it came to the suffix, the token
limit, no mask left, or that it was copied whole. Empty where a remote server does not say."""


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of another file. `path` is for the model to read, relative to the workspace."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A hole between `prefix` and `suffix`, plain text with `\\n` line ends.

    What the model reads: `snippets`, before everything else, in their order (keeping it keeps the
    cached tokens); `path`; `copies`, texts that stand in the hole's place elsewhere, which a
    calibrated model judges beside its own.

    How it decodes: `mode`; `alternatives`, which differ in their first token (temperature 0) or in
    their seed; `max_tokens`; `max_lines`, None to leave the end to the model's end-of-middle token;
    `temperature`, 0 for greedy; `top_p`, the share of the probability that is sampled from.

    What the service needs: `session` names the document whose cached tokens may be reused ("" keeps
    nothing; after a `#` it names a part of one, such as its second prompt). A `speculative`
    request yields to all that are not. `trace` asks for what each forward did (remote servers
    cannot say). `language` is the editor's name for the document's language; no backend reads it.
    `adapter` names the updates that were trained on the document's workspace (16 hexadecimal
    digits), "" for the model as it is; one that is not there changes nothing.

    Raises ValueError, naming the field, for a value out of range.
    """

    prefix: str
    suffix: str
    path: str = ""
    language: str = ""
    mode: str = AUTO
    alternatives: int = 1
    max_tokens: int = 64
    max_lines: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    session: str = ""
    snippets: Sequence[Snippet] = ()
    speculative: bool = False
    copies: Sequence[Copied] = ()
    trace: bool = False
    adapter: str = ""

    def __post_init__(self) -> None:
        _check_adapter(self.adapter)
        _check_tokens(self.max_tokens)
        _check_decoding(self)
        if self.max_lines is not None and self.max_lines < 1:
            raise ValueError(f"max_lines must be at least 1, not {self.max_lines}")


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """What a role said. Raises ValueError for an unknown role."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} is unknown; known are {', '.join(ROLES)}")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation whose next answer is asked for, in the terms of the model's chat template.

    `opening` is how the answer must begin; it is not part of the text that is returned. The other
    fields mean what they mean in a CompletionRequest.

    Raises ValueError, naming the field, for a value out of range.
    """

    messages: tuple[ChatMessage, ...]
    opening: str = ""
    mode: str = AUTO
    alternatives: int = 1
    max_tokens: int = MAX_ANSWER_TOKENS
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    session: str = ""
    speculative: bool = False
    trace: bool = False

    adapter: ClassVar[str] = ""
    max_lines: ClassVar[None] = None
    copies: ClassVar[Sequence[Copied]] = ()

    def __post_init__(self) -> None:
        if not self.messages:
            raise ValueError("messages must have at least one message")
        if not 1 <= self.max_tokens <= MAX_ANSWER_TOKENS:
            raise ValueError(f"max_tokens must be 1 to {MAX_ANSWER_TOKENS}, not {self.max_tokens}")
        if self.mode == NATIVE:
            raise ValueError("mode 'native' fills holes; it does not answer")
        _check_decoding(self)


@dataclass(frozen=True, slots=True)
class InstructionRequest:
    """A region of whole lines, to be rewritten as `instruction` says.

    `old`, `prefix` and `suffix` as in a RewriteRequest. `language` is the editor's name for the
    document's language. `max_tokens` is how many tokens longer than the old region the new one
    may get.
    """

    instruction: str
    prefix: str
    old: str
    suffix: str
    path: str = ""
    language: str = ""
    max_tokens: int = 256
    session: str = ""
    speculative: bool = False

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise ValueError("instruction must not be empty")
        if not 1 <= self.max_tokens <= MAX_ANSWER_TOKENS:
            raise ValueError(f"max_tokens must be 1 to {MAX_ANSWER_TOKENS}, not {self.max_tokens}")


@dataclass(frozen=True, slots=True)
class CompletionItem:
    """One way to fill the hole.

    `confidence` (0..1) is the probability that it is what was wanted where the model is calibrated,
    else the geometric mean of its tokens' probabilities. `nats` are the log-probabilities of its
    tokens when they were committed, the end's included; they stay in the process of the model.
    """

    text: str
    confidence: float
    finish: Finish = ""
    nats: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class CompletionStats:
    """What a completion cost.

    forwards: every pass through the network, prefill included. tokens: committed ones, the
    end-of-middle tokens included. tokens_per_forward: their ratio (TPF).
    """

    mode: str
    forwards: int
    tokens: int
    tokens_per_forward: float
    prefill_tokens: int
    reused_tokens: int
    ms: float


@dataclass(frozen=True, slots=True)
class TraceStep:
    """What one forward did; a `kind` of "prefill" begins an alternative.

    width: positions in the forward. hole: its tokens' texts after the forward, None for a mask.
    committed, remasked: positions in the hole. confidences: of the committed ones.
    """

    kind: str
    width: int
    hole: list[str | None]
    committed: list[int]
    confidences: list[float]
    remasked: list[int]


@dataclass(frozen=True, slots=True)
class Gate:
    """How the probability that an item is right follows from what the front-end finds out as well.

    Its log-odds are `bias`, `confidence` times the log-odds of the item's confidence, and for each
    feature of the front-end, by name, its value times its weight. `show_above` is the probability
    from which an item is shown unasked.
    """

    bias: float
    confidence: float
    show_above: float
    weights: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Completion:
    """The items, best first; none if another request took the place of this one.

    `stats` is None where nothing was computed or a remote server does not say. `show_above` is the
    confidence from which the model's calibration advises to show an item unasked, for a front-end
    that knows nothing else; `gate` is for one that weighs evidence of its own, None where the model
    was not calibrated for that. `trace` has every forward, if that was asked for. `adapter` is the
    request's if the model was used with it, else "".
    """

    items: list[CompletionItem] = field(default_factory=list)
    stats: CompletionStats | None = None
    show_above: float = 0.0
    trace: list[TraceStep] = field(default_factory=list)
    gate: Gate | None = None
    adapter: str = ""


RewriteWay = Literal["rewrite", "refill", "instruction"]
"""How a region is rewritten: by a model with edit training, by a revision that re-masks and
refills (`decoding/revise_region.py`), or as an instruction says (`decoding/instructed_edit.py`)."""


@dataclass(frozen=True, slots=True)
class PastEdit:
    """A change that the user made: whole lines before and after it, with `\\n` between them."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class RewriteRequest:
    """A region of whole lines, to be rewritten after recent edits elsewhere.

    `old` are the lines with `\\n` between them and none at the end; prefix + old + suffix is the
    text, as far as it is shown. `edits` are the user's latest, oldest first. `drafts` are texts
    that the region may become, for the model to judge beside its own. `max_tokens` is how many
    tokens longer than the old region the new one may get.

    `session` names the document whose cached tokens may be reused ("" keeps nothing); they are kept
    apart from those of its completions. A `speculative` request yields to all that are not.
    `adapter` as in a CompletionRequest.

    Raises ValueError, naming the field, for a value out of range.
    """

    prefix: str
    old: str
    suffix: str
    edits: Sequence[PastEdit] = ()
    path: str = ""
    max_tokens: int = 96
    session: str = ""
    speculative: bool = True
    drafts: Sequence[str] = ()
    adapter: str = ""

    def __post_init__(self) -> None:
        _check_adapter(self.adapter)
        _check_tokens(self.max_tokens)
        if len(self.drafts) > MAX_DRAFTS:
            raise ValueError(f"drafts must be at most {MAX_DRAFTS}, not {len(self.drafts)}")


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What a region becomes: `new` is `old` where the model leaves it alone.

    new: the likeliest of the old text, the drafts and what the model writes by itself, if that
    comes to an end within the token limit. gain: log P(new) - log P(old) in nats given the prompt,
    the end included; 0 where it is unchanged (way "refill": the smaller of the gains with both
    sides in view and from left to right). confidence (0..1): geometric mean of the probabilities of
    the new tokens, the end included. forwards: every pass through the network. tokens: those of the
    new region. reused_tokens: of the prompt, from the session. draft_gains: the gain of each draft,
    None for one that is too long to be judged. draft_weight: nats of evidence for each nat of a
    draft's gain. own_prior: log-odds in nats that are added to the gain of what the model wrote by
    itself. Both are measured for the checkpoint, else the defaults.
    """

    new: str
    gain: float
    confidence: float
    way: str
    forwards: int
    tokens: int
    reused_tokens: int
    ms: float
    draft_gains: tuple[float | None, ...] = ()
    draft_weight: float = DRAFT_WEIGHT
    own_prior: float = OWN_PRIOR


def _check_decoding(request: CompletionRequest | ChatRequest) -> None:
    if request.mode not in MODES:
        known = ", ".join(MODES)
        raise ValueError(f"mode {request.mode!r} is unknown; known are {known}")
    if request.alternatives < 1:
        raise ValueError(f"alternatives must be at least 1, not {request.alternatives}")
    if not 0 <= request.temperature < math.inf:
        raise ValueError(f"temperature must be 0 or more, not {request.temperature}")
    if not 0 < request.top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, not {request.top_p}")


def _check_adapter(name: str) -> None:
    if name and not ADAPTER_NAME.fullmatch(name):
        raise ValueError(f"adapter must be 16 hexadecimal digits, not {name!r}")


def _check_tokens(count: int) -> None:
    if not 1 <= count <= MAX_TOKENS:
        raise ValueError(f"max_tokens must be 1 to {MAX_TOKENS}, not {count}")
