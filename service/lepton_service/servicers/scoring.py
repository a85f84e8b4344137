"""ScoringService: how likely the model holds a text."""

from typing import Any

import grpc

from lepton.v1 import scoring_pb2_grpc
from lepton.v1.scoring_pb2 import ScoreRequest, ScoreResponse
from lepton_engine.errors import InvalidRequestError
from lepton_service import prompts
from lepton_service.arrival import REQUEST_ID_KEY, arrival
from lepton_service.calls import current_call
from lepton_service.converters import sampling
from lepton_service.converters import scoring as convert
from lepton_service.converters.fields import proto_path
from lepton_service.errors import InvalidFieldError, ResourceNotFoundError
from lepton_service.state import ServerState

Context = grpc.aio.ServicerContext[Any, Any]


class ScoringServicer(scoring_pb2_grpc.ScoringServiceServicer):
    """Scores texts on the engine of a server."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def Score(self, request: ScoreRequest, context: Context) -> ScoreResponse:
        """Scores one text."""
        state = self._state
        state.check_model(request.model)
        engine = state.ready_engine()
        info = engine.model_info
        arrived = arrival(request.request_id, context)
        if request.adapter:
            raise ResourceNotFoundError("adapter", request.adapter, f"adapter {request.adapter!r} is not loaded")
        top = convert.top_logprobs(request, info.vocab_size)
        priority = sampling.priority(request)
        queue_time = sampling.max_queue_time(request)
        kind = request.WhichOneof("prompt")
        special = request.add_special_tokens if request.HasField("add_special_tokens") else None
        prompt = await prompts.prompt_ids(request, kind, special, engine.tokenizer, generating=False)
        path = prompts.path(kind or "prompt")
        prompts.check_prompt(prompt, kind or "prompt", info.vocab_size, info.max_model_len)
        unscored = convert.context_tokens(request, len(prompt), path)
        call = current_call.get()
        if call is not None:
            call.prompt_tokens, call.operation = len(prompt), "score"
        with state.in_flight(arrived.tenant, arrived.request_id):
            try:
                output = await engine.score(
                    prompt,
                    top=top,
                    request_id=arrived.request_id,
                    priority=priority,
                    tenant=arrived.tenant,
                    adapter=request.adapter,
                    deadline=arrived.ends_by(state.max_stream_seconds),
                    max_queue_time=queue_time,
                )
            except InvalidRequestError as error:
                raise InvalidFieldError(proto_path(error.field, path), error.reason) from error
        if call is not None:
            call.metrics = output.metrics
        response = await prompts.off_loop(
            len(prompt) * (1 + top),
            convert.response,
            output,
            model=state.model_name,
            request_id=arrived.request_id,
            context=unscored,
            top=top,
            ids=convert.wants_token_ids(request),
        )
        await context.send_initial_metadata(((REQUEST_ID_KEY, arrived.request_id),))
        return response
