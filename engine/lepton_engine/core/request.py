"""A request and the sequences that it is sampled into."""

from dataclasses import dataclass, field
from enum import Enum, auto

from lepton_engine.core.hashing import root_hash
from lepton_engine.core.output_grammar import OutputGrammar, OutputMatcher
from lepton_engine.sampling_params import SamplingParams


class SequenceState(Enum):
    """Where a sequence stands. FOLLOWING waits for another sequence to compute the prefix that both share."""

    WAITING = auto()
    FOLLOWING = auto()
    RUNNING = auto()
    FINISHED = auto()


@dataclass(eq=False)
class Request:
    """What was submitted, as the scheduler sees it. Times are `time.monotonic` seconds.

    Attributes:
        key: unique in the engine. priority: lower runs earlier. arrival: order of submission.
        max_tokens: the resolved bound of generated tokens per sequence, at least 1; 0 only scores the prompt.
        stop_token_ids: every token that ends a sequence, end-of-sequence tokens included.
        bad_word_ids: token sequences that are never completed.
        deadline: the request fails when it passes. finish_by: it ends with what it has.
        max_queue_time: seconds that it may wait before it runs. start_by: when these, or the server's own bound, end.
        price: of a token in its tenant's share of the server. grammar: that its outputs are held to.
        isolated: whether its steps are apart, because one has crashed. fingerprint: of what it asks.
        lane: priority and tenant. The sequences of a lane are served in the order of their arrival.
    """

    key: str
    prompt: list[int]
    params: SamplingParams
    arrival: int
    arrival_time: float
    seed: int
    max_tokens: int
    stop_token_ids: frozenset[int] = frozenset()
    bad_word_ids: tuple[tuple[int, ...], ...] = ()
    priority: int = 0
    tenant: str = ""
    adapter: str = ""
    deadline: float | None = None
    finish_by: float | None = None
    max_queue_time: float | None = None
    client: str = ""
    sequences: "list[Sequence]" = field(default_factory=list)
    first_scheduled_time: float | None = None
    num_cached_tokens: int = 0
    num_preemptions: int = 0
    prompt_scored: bool = False
    start_by: float | None = None
    price: float = 1.0
    grammar: OutputGrammar | None = None
    isolated: bool = False
    fingerprint: bytes = b""

    def __post_init__(self) -> None:
        self.lane = (self.priority, self.tenant)
        self.root = root_hash(self.tenant, self.adapter)
        self.sequences = [Sequence(self, 0, list(self.prompt))]

    def constrain(self, grammar: OutputGrammar) -> None:
        """Hold the outputs to a grammar; before the request is submitted."""
        self.grammar = grammar
        self.sequences[0].matcher = self.new_matcher()

    def new_matcher(self) -> OutputMatcher | None:
        """A sequence's state in the grammar at its beginning; None without a grammar."""
        return None if self.grammar is None else self.grammar.matcher(ignore_eos=self.params.ignore_eos)

    @property
    def reads_prefix_cache(self) -> bool:
        """Cached positions have no logits, so whoever wants the prompt's logits computes all of it."""
        return self.params.prompt_logprobs is None

    @property
    def needs_history(self) -> bool:
        """Whether sampling needs every earlier token on the host: penalties, bad words and grammars look back."""
        params = self.params
        return bool(
            self.bad_word_ids
            or self.grammar is not None
            or params.presence_penalty
            or params.frequency_penalty
            or params.repetition_penalty != 1
        )

    @property
    def masked_stop_ids(self) -> tuple[int, ...]:
        """The tokens that must not be sampled before min_tokens."""
        return tuple(self.stop_token_ids) if self.params.min_tokens else ()

    @property
    def forked(self) -> bool:
        """Whether the prompt has been computed and its n sequences exist."""
        return len(self.sequences) == self.params.n

    @property
    def finished(self) -> bool:
        """Whether every sequence has ended."""
        return self.forked and all(s.state is SequenceState.FINISHED for s in self.sequences)


@dataclass(eq=False)
class Sequence:
    """One line of tokens of a request: the prompt and what was sampled after it.

    Attributes:
        token_ids: the tokens that the host knows. num_pending: sampled tokens that are still on the device.
        num_computed: tokens whose keys and values are in the cache, or will be once the launched steps have run.
        blocks: block table of each KV cache group; 0 where a window has left a block behind.
        hashes: content hashes of the full blocks known so far. slot: persistent row in the runner, -1 without one.
        draft: tokens that may follow, to be verified by its next step. num_drafted, num_accepted: of all its steps.
        num_charged: tokens whose computation its tenant has been charged for; doing it again is free.
        matcher: its state in the request's grammar, behind the tokens that the host knows; None without a grammar.
    """

    request: Request
    index: int
    token_ids: list[int]
    state: SequenceState = SequenceState.WAITING
    num_computed: int = 0
    num_pending: int = 0
    slot: int = -1
    blocks: list[list[int]] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    num_hashed: int = 0
    window_start: list[int] = field(default_factory=list)
    leads: set[bytes] = field(default_factory=set)
    follows: bytes | None = None
    draft: tuple[int, ...] = ()
    num_drafted: int = 0
    num_accepted: int = 0
    num_charged: int = 0
    matcher: OutputMatcher | None = None

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.request.prompt)

    @property
    def num_known(self) -> int:
        """Tokens that exist, those still on the device included."""
        return len(self.token_ids) + self.num_pending

    @property
    def num_remaining(self) -> int:
        """Tokens whose keys and values are still to be computed; 1 in steady decode."""
        return self.num_known - self.num_computed

    @property
    def num_generated(self) -> int:
        """Tokens sampled so far, those still on the device included."""
        return self.num_known - self.num_prompt

    @property
    def order(self) -> tuple[int, int, int]:
        """Sort key: priority, then arrival, then index."""
        return (self.request.priority, self.request.arrival, self.index)

    @property
    def num_slots(self) -> int:
        """Slots that it needs to run: all of the request's while it stands for the siblings yet to be forked."""
        return 1 if self.request.forked else self.request.params.n

    def num_held(self, group: int) -> int:
        """Blocks that it holds in a group of the KV cache."""
        return len(self.blocks[group]) - self.window_start[group]

    def num_wanted(self, longest: int) -> int:
        """Tokens to compute before the next sample, in a sequence of at most `longest`; 0 when there is to be none."""
        request = self.request
        if self.num_generated and (self.num_generated >= request.max_tokens or self.num_known >= longest):
            return 0
        return 0 if self.num_pending and request.needs_history else self.num_remaining

    def num_draftable(self, longest: int) -> int:
        """Draft tokens that its next step could use: none before the first token, nor where the end is near."""
        if self.state is not SequenceState.RUNNING or self.num_pending or self.num_remaining != 1:
            return 0
        if not self.num_generated:
            return 0
        return max(0, min(self.request.max_tokens - self.num_generated, longest - self.num_known) - 1)

    def ending(self, longest: int) -> tuple[str | None, int | None]:
        """Why the sequence ends with its last sampled token, if it does, and the stop token that was met.

        Called once for each token, with which it advances in its grammar.
        """
        request, token = self.request, self.token_ids[-1]
        generated = len(self.token_ids) - self.num_prompt
        if token in request.stop_token_ids and generated > request.params.min_tokens:
            return "stop", token
        if self.matcher is not None and self.matcher.advance(token):
            return "stop", None
        if generated >= request.max_tokens or len(self.token_ids) >= longest:
            return "length", None
        return None, None

    def fork(self) -> "list[Sequence]":
        """The siblings 1 to n - 1, made when the prompt has been scheduled in full; the caller shares the blocks."""
        siblings = [
            Sequence(
                self.request,
                index,
                list(self.token_ids),
                SequenceState.RUNNING,
                self.num_computed,
                hashes=list(self.hashes),
                num_charged=self.num_computed,
                matcher=self.request.new_matcher(),
            )
            for index in range(1, self.request.params.n)
        ]
        self.request.sequences.extend(siblings)
        return siblings
