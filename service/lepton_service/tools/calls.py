"""The calls in a request's outputs, as the contract has them."""

import secrets
import string

from lepton.v1.chat_pb2 import ToolCall
from lepton.v1.generation_pb2 import ToolCallDelta
from lepton_engine.outputs import CompletionOutput
from lepton_service.tools.parsing import SpecialTokens
from lepton_service.tools.pieces import Arguments, CallBegins, CallEnds, Piece, Text
from lepton_service.tools.plan import ToolPlan

FINISH_REASON = "tool_calls"
_LETTERS = string.ascii_letters + string.digits


class ToolCalls:
    """Takes the calls out of the outputs of one request.

    Args:
        plan: of the request; None finds none.
        skip_special_tokens: whether special tokens stay out of the text.
    """

    def __init__(self, plan: ToolPlan | None, skip_special_tokens: bool = True) -> None:
        self._plan = plan
        self._skip = skip_special_tokens
        self._choices: dict[int, _Choice] = {}

    def take(self, output: CompletionOutput) -> list[ToolCallDelta]:
        """The pieces of calls in the news of a choice, which loses their text; its end becomes that of a call."""
        if self._plan is None:
            return []
        choice = self._choices.get(output.index)
        if choice is None:
            choice = self._choices[output.index] = _Choice(self._plan, self._skip)
        output.text, deltas = choice.take(output.text, output.finished)
        if output.finish_reason == "stop" and choice.complete:
            output.finish_reason, output.stop_reason = FINISH_REASON, None
        return deltas

    def take_whole(self, output: CompletionOutput) -> list[ToolCall]:
        """The calls in the whole output of a choice; see `take`. One whose output was cut off is as far as it got."""
        calls: list[ToolCall] = []
        for delta in self.take(output):
            if delta.index == len(calls):
                calls.append(ToolCall(id=delta.id, name=delta.name))
            calls[-1].arguments_json += delta.arguments_json
        return calls


class _Choice:
    """One choice. complete: how many of its calls are."""

    def __init__(self, plan: ToolPlan, skip_special_tokens: bool) -> None:
        self._short_ids = plan.format.short_ids
        self._parser = plan.parser()
        special = plan.special_tokens if skip_special_tokens else None
        self._special = None if special is None else SpecialTokens(special)
        self._index = -1
        self.complete = 0

    def take(self, text: str, last: bool) -> tuple[str, list[ToolCallDelta]]:
        """The text and the calls' pieces that are certain with this text."""
        pieces = self._parser.push(text)
        if last:
            pieces += self._parser.finish()
        texts = []
        deltas: list[ToolCallDelta] = []
        for piece in pieces:
            if isinstance(piece, Text):
                texts.append(piece.text)
            else:
                self._take_call(piece, deltas)
        found = "".join(texts)
        if self._special is not None:
            found = self._special.push(found) + (self._special.finish() if last else "")
        return found, deltas

    def _take_call(self, piece: Piece, deltas: list[ToolCallDelta]) -> None:
        if isinstance(piece, CallBegins):
            self._index += 1
            deltas.append(ToolCallDelta(index=self._index, id=new_id(self._short_ids), name=piece.name))
        elif isinstance(piece, Arguments):
            deltas.append(ToolCallDelta(index=self._index, arguments_json=piece.text))
        elif isinstance(piece, CallEnds):
            self.complete += 1


def new_id(short: bool) -> str:
    """An id of a call; short ones are nine letters and digits."""
    if short:
        return "".join(secrets.choice(_LETTERS) for _ in range(9))
    return f"call_{secrets.token_hex(12)}"
