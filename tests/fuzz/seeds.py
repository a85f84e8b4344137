"""Small requests of every method, to begin from, and the corpus of inputs that once were found."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from tests.fuzz.target import METHODS

CORPUS = Path(__file__).with_name("corpus")

REQUESTS: dict[str, list[str]] = {
    "Generate": [
        'text: "Once" stop { max_tokens: 4 }',
        "token_ids { ids: [5, 6, 7] } sampling { n: 2 seed: 1 top_k: 5 logit_bias { key: 9 value: 1.5 } } "
        "output { logprobs: 2 prompt_logprobs: 1 return_prompt_token_ids: true coalescing { max_tokens: 3 } }",
        'chat { messages { role: ROLE_SYSTEM content { text: "Be short." } } '
        'messages { role: ROLE_USER content { text: "Hi" } } '
        'tools { name: "look" description: "Looks." parameters_json_schema: "{\\"type\\":\\"object\\"}" } '
        "tool_choice { mode: MODE_AUTO } } priority: 3 time_limit { seconds: 2 } max_queue_time { nanos: 5 }",
        'chat { messages { role: ROLE_USER content { text: "Look" } } '
        'messages { role: ROLE_ASSISTANT tool_calls { id: "c1" name: "look" arguments_json: "{\\"at\\": 1}" } } '
        'messages { role: ROLE_TOOL tool_call_id: "c1" name: "look" content { text: "3" } } '
        'template_arguments { fields { key: "a" value { number_value: 1 } } } add_generation_prompt: true }',
        'text: "a" constraint { json_schema: "{\\"type\\": \\"object\\"}" }',
        'text: "a" constraint { regex: "[a-z]{1,9}" }',
        'text: "a" constraint { grammar: "start: \\"a\\"+" } stop { strings: ["b", "cd"] token_ids: [7] }',
        'text: "a" constraint { choices { texts: ["yes", "no"] } } sampling { bad_words: ["bad"] }',
    ],
    "Complete": [
        'text: "Once" model: "model" request_id: "r1" stop { max_tokens: 4 min_tokens: 2 include_in_output: true }',
        'chat { messages { role: ROLE_USER content { text: "Look" } } tools { name: "look" } '
        'tool_choice { name: "look" } } output { return_text: true logprobs: 0 }',
    ],
    "Score": ['text: "Once upon a time" top_logprobs: 2 context_tokens: 2', "token_ids { ids: [5, 6, 7] }"],
    "Tokenize": ['text: "Once" add_special_tokens: false'],
    "Detokenize": ["token_ids: [5, 6, 7] skip_special_tokens: false"],
    "ApplyChatTemplate": [
        'chat { messages { role: ROLE_USER content { text: "Hi" } } continue_final_message: true }',
        'chat { messages { role: ROLE_USER content { text: "Hi" } } tools { name: "look" } }',
    ],
    "GetModel": ['name: "model"'],
    "ListModels": [""],
    "GetStats": [""],
    "WatchStats": ["interval { nanos: 200000000 }"],
}
FUNCTION = {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}
BODIES: dict[str, list[Any]] = {
    "/v1/completions": [
        {"model": "model", "prompt": "Once", "max_tokens": 4, "n": 2, "stop": ["b"], "logprobs": 2, "seed": 1},
        {"model": "model", "prompt": [5, 6], "stream": True, "stream_options": {"include_usage": True}, "echo": False},
        {"model": "model", "prompt": ["a", "b"], "temperature": 0.5, "top_p": 0.9, "logit_bias": {"5": 1}},
    ],
    "/v1/chat/completions": [
        {"model": "model", "messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 4},
        {
            "model": "model",
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
            "stream": True,
            "tools": [{"type": "function", "function": FUNCTION}],
            "tool_choice": "auto",
            "logprobs": True,
            "top_logprobs": 2,
        },
        {
            "model": "model",
            "messages": [
                {"role": "user", "content": "Look"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "3"},
            ],
            "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        },
    ],
    "/v1/embeddings": [{"model": "model", "input": "a"}],
}


def seeds() -> Iterator[bytes]:
    """Valid inputs of every method."""
    for index, (method, kind) in enumerate(METHODS):
        if kind is bytes:
            for body in BODIES[method]:
                yield bytes([index]) + json.dumps(body).encode()
        else:
            for text in REQUESTS[method.rpartition("/")[2]]:
                yield bytes([index]) + bytes(text_format.Parse(text, kind()).SerializeToString())


def corpus() -> list[Path]:
    """Inputs that once were found, and are no longer."""
    return sorted(path for path in CORPUS.iterdir() if path.suffix == ".bin")
