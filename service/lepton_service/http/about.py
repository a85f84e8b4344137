"""Endpoints that generate nothing: models, health, and embeddings as long as no model has any."""

from lepton.v1.model_pb2 import Capability, GetModelRequest, ListModelsRequest, ListModelsResponse, Model, ModelState
from lepton_service.health import GENERATION, SERVING
from lepton_service.http import body
from lepton_service.http.errors import HTTPError
from lepton_service.http.exchange import Exchange
from lepton_service.http.in_process import Methods
from lepton_service.http.schema import EmbeddingBody
from lepton_service.state import ServerState

GET_MODEL = "/lepton.v1.ModelService/GetModel"
LIST_MODELS = "/lepton.v1.ModelService/ListModels"


class About:
    """Handlers of what the server says of itself."""

    def __init__(self, state: ServerState, methods: Methods) -> None:
        self._state = state
        self._methods = methods

    async def models(self, exchange: Exchange, data: bytes) -> None:
        """`GET /v1/models`."""
        response: ListModelsResponse = await self._methods.unary(LIST_MODELS, ListModelsRequest(), exchange.origin())
        await exchange.json({"object": "list", "data": [self._model(model) for model in response.models]})

    async def model(self, exchange: Exchange, data: bytes) -> None:
        """`GET /v1/models/NAME`."""
        await exchange.json(self._model(await self._get(exchange, exchange.scope["path_params"]["name"])))

    async def embeddings(self, exchange: Exchange, data: bytes) -> None:
        """`POST /v1/embeddings`: refused, for models that generate have none."""
        given = body.decode(data, EmbeddingBody)
        name = (await self._get(exchange, given.model)).name
        raise HTTPError(400, f"model: {name!r} generates text and has no embeddings", "model", "unsupported_model")

    async def health(self, exchange: Exchange, data: bytes) -> None:
        """`GET /health`: 200 while requests are served and are to be sent here, else 503 and why."""
        serving = self._state.health.status(GENERATION) == SERVING
        status = ModelState.Name(self._state.model_state).removeprefix("MODEL_STATE_").lower()
        await exchange.json({"status": status}, 200 if serving else 503)

    async def _get(self, exchange: Exchange, name: str) -> Model:
        response = await self._methods.unary(GET_MODEL, GetModelRequest(name=name), exchange.origin())
        model: Model = response.model
        return model

    def _model(self, model: Model) -> dict[str, object]:
        """OpenAI's model, and what the contract knows beside it."""
        return {
            "id": model.name,
            "object": "model",
            "created": int(self._state.started),
            "owned_by": "lepton",
            "state": ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower(),
            "family": model.family,
            "dtype": model.dtype,
            "quantization": model.quantization,
            "device": model.device,
            "parameters": model.parameters,
            "max_model_len": model.context_length,
            "capabilities": [
                Capability.Name(capability).removeprefix("CAPABILITY_").lower() for capability in model.capabilities
            ],
        }
