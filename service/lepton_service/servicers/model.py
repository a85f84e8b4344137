"""ModelService: what is served."""

from typing import Any

import grpc

from lepton.v1 import model_pb2_grpc
from lepton.v1.model_pb2 import GetModelRequest, GetModelResponse, ListModelsRequest, ListModelsResponse, Model
from lepton_service.converters import model as convert
from lepton_service.state import Phase, ServerState

Context = grpc.aio.ServicerContext[Any, Any]


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Describes a server's model."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    async def GetModel(self, request: GetModelRequest, context: Context) -> GetModelResponse:
        """One model."""
        self._state.check_model(request.name)
        return GetModelResponse(model=self._model())

    async def ListModels(self, request: ListModelsRequest, context: Context) -> ListModelsResponse:
        """All models."""
        return ListModelsResponse(models=[self._model()])

    def _model(self) -> Model:
        state = self._state
        ready = state.engine if state.phase is Phase.READY else None
        return convert.model(
            state.model_name,
            state.model_state,
            None if ready is None else ready.model_info,
            ready is not None and ready.tokenizer.chat_template is not None,
            convert.limits(state.max_request_bytes, state.max_stream_seconds),
        )
