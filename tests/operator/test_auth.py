"""The operator's pods and `lepton serve` agree on the file of tokens."""

import argparse
from collections.abc import Callable
from typing import Any

from lepton_operator.desired import Choices, desired
from lepton_operator.settings import PodSettings
from lepton_service.commands import serve


def test_pods_ask_for_the_tokens_of_the_secret(model: Callable[..., Any], settings: PodSettings) -> None:
    made = desired(model(server={"auth": {"tokensSecret": "llama-tokens"}}), settings, Choices(replicas=1))
    (pod,) = [m["spec"]["template"]["spec"] for m in made if m["kind"] == "Deployment"]
    (container,) = pod["containers"]
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    options = serve.server_options(parser.parse_args(container["args"][1:]))
    assert options.auth is not None
    assert options.auth.tokens is not None
    (mount,) = [m for m in container["volumeMounts"] if m["mountPath"] == str(options.auth.tokens.parent)]
    (volume,) = [v for v in pod["volumes"] if v["name"] == mount["name"]]
    assert volume["secret"]["secretName"] == "llama-tokens"
    assert "items" not in volume["secret"], "keys of the Secret are files of their names"
    assert options.auth.tokens.name == "tokens"
    assert mount["readOnly"]
    assert "subPath" not in mount, "a file mounted by itself is not renewed"
