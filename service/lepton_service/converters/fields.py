"""The engine's names of request fields to the contract's paths."""

import re

_OUTPUT = {"logprobs", "prompt_logprobs", "skip_special_tokens"}
_STOP = {"ignore_eos", "max_tokens", "min_tokens"}
_RENAMED = {
    "sampling_params.stop": "stop.strings",
    "sampling_params.stop_token_ids": "stop.token_ids",
    "sampling_params.include_stop_str_in_output": "stop.include_in_output",
    "sampling_params.detokenize": "output.return_text",
    "sampling_params.structured_outputs": "constraint",
    "sampling_params.structured_outputs.json": "constraint.json_schema",
    "sampling_params.structured_outputs.regex": "constraint.regex",
    "sampling_params.structured_outputs.grammar": "constraint.grammar",
    "sampling_params.structured_outputs.choice": "constraint.choices.texts",
    "messages": "chat.messages",
    "tools": "chat.tools",
    "chat_template": "chat",
    "template_args": "chat.template_arguments",
    "continue_final_message": "chat.continue_final_message",
    "prompt_token_ids": "token_ids.ids",
}
_HEAD = re.compile(r"^[^\[]*?(?=\[|$)")


def proto_path(field: str, prompt: str = "prompt") -> str:
    """The path in the request message of a field that the engine names.

    Args:
        field: the engine's dotted path, maybe with an index (`sampling_params.top_p`, `messages[2].content`).
        prompt: what stands for the engine's `prompt`: the kind that the request's oneof holds.
    """
    if field == "prompt" or field.startswith(("prompt[", "prompt.")):
        return prompt + field.removeprefix("prompt")
    match = _HEAD.match(field)
    head = match[0] if match else field
    rest = field[len(head) :]
    if head in _RENAMED:
        return _RENAMED[head] + rest
    parts = head.split(".")
    if parts[0] == "sampling_params" and len(parts) > 1:
        name = parts[1]
        group = "output" if name in _OUTPUT else "stop" if name in _STOP else "sampling"
        return ".".join([group, *parts[1:]]) + rest
    return field
