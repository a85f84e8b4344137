"""What a LeptonModel becomes."""

from collections.abc import Callable
from typing import Any

import pytest

from lepton_operator import names
from lepton_operator.desired import Choices, desired
from lepton_operator.settings import PodSettings

Make = Callable[..., Any]


def objects(model: Any, settings: PodSettings, **choices: Any) -> dict[str, dict[str, Any]]:
    """By kind, Services by name."""
    made = desired(model, settings, Choices(**{"replicas": 1, **choices}))
    return {m["kind"] if m["kind"] not in ("Service", "Job") else m["metadata"]["name"]: m for m in made}


def pod_of(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = found["Deployment"]["spec"]["template"]["spec"]
    return spec


def args_of(found: dict[str, dict[str, Any]]) -> list[str]:
    args: list[str] = pod_of(found)["containers"][0]["args"]
    return args


def test_the_smallest_model(model: Make, settings: PodSettings) -> None:
    found = objects(model(), settings)
    assert set(found) == {"ServiceAccount", "m", "m-headless", "PodDisruptionBudget", "Deployment"}
    assert found["m-headless"]["spec"]["clusterIP"] == "None"
    for name in ("m", "m-headless"):
        [port] = found[name]["spec"]["ports"]
        assert (port["name"], port["port"], port["appProtocol"]) == ("grpc", 50051, "kubernetes.io/h2c")
    assert found["PodDisruptionBudget"]["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert found["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert "--device=cpu" in args_of(found)
    assert {"--metrics-host=0.0.0.0", "--metrics-port=9090"} <= set(args_of(found))
    for manifest in found.values():
        [owner] = manifest["metadata"]["ownerReferences"]
        assert owner["controller"]
        assert manifest["metadata"]["labels"][names.MANAGED_BY] == names.MANAGER


def test_selectors_select_server_pods_and_no_fetch_pods(model: Make, settings: PodSettings) -> None:
    source = {"source": {"huggingFace": {"repo": "o/n"}}}
    found = objects(model(model=source, cache={"size": "1Gi"}), settings)
    server = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    [job] = [m for name, m in found.items() if "fetch" in name]
    fetcher = job["spec"]["template"]["metadata"]["labels"]
    for selector in (
        found["m"]["spec"]["selector"],
        found["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        found["Deployment"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= server.items()
        assert not selector.items() <= fetcher.items()


def test_pods_are_restricted(model: Make, settings: PodSettings) -> None:
    source = {"source": {"huggingFace": {"repo": "o/n"}}}
    found = objects(model(model=source), settings)
    pod = pod_of(found)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["containers"], *pod["initContainers"]):
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
    assert not pod["automountServiceAccountToken"]


def test_the_drain_fits_the_grace(model: Make, settings: PodSettings) -> None:
    found = objects(model(drain={"propagationSeconds": 7, "timeoutSeconds": 90}), settings)
    assert pod_of(found)["terminationGracePeriodSeconds"] == 7 + 90 + 10
    assert pod_of(found)["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 7}}}
    assert "--drain-timeout=90" in args_of(found)
    none = objects(model(drain={"propagationSeconds": 0}), settings)
    assert "preStop" not in pod_of(none)["containers"][0]["lifecycle"]


def test_probes_use_the_control_port(model: Make, settings: PodSettings) -> None:
    container = pod_of(objects(model(startup={"timeoutSeconds": 101}), settings))["containers"][0]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["grpc"]["port"] == 50052
    assert container["livenessProbe"]["grpc"]["service"] == ""
    assert container["readinessProbe"]["grpc"]["service"] == "lepton.v1.GenerationService"
    startup = container["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] >= 101


def test_a_gpu_is_asked_for_and_never_replaced_by_the_cpu(model: Make, settings: PodSettings) -> None:
    found = objects(model(gpu={"resource": "nvidia.com/mig-1g.10gb", "count": 2}), settings)
    resources = pod_of(found)["containers"][0]["resources"]
    assert resources["limits"] == resources["requests"] == {"nvidia.com/mig-1g.10gb": "2"}
    assert "--device=cuda" in args_of(found)
    assert any(v.get("emptyDir", {}).get("medium") == "Memory" for v in pod_of(found)["volumes"])


def test_settings_reach_the_server(model: Make, settings: PodSettings) -> None:
    spec = {
        "quantization": {"weights": "int8", "kvCache": "fp8"},
        "server": {
            "args": ["--max-model-len=99"], "maxConcurrentStreams": 5, "maxStreamSeconds": 30, "image": "other:2",
            "tls": {"secretName": "pair", "clientCA": "authority"},
        },
    }  # fmt: skip
    found = objects(model(**spec), settings)
    args = args_of(found)
    for flag in (
        "--quantization=int8", "--kv-cache-dtype=fp8", "--max-num-seqs=5", "--max-stream-seconds=30",
        "--tls-cert=/etc/lepton/tls/tls.crt", "--tls-client-ca=/etc/lepton/client-ca/ca.crt", "--max-model-len=99",
    ):  # fmt: skip
        assert flag in args
    assert pod_of(found)["containers"][0]["image"] == "other:2"
    assert found["m"]["spec"]["ports"][0]["appProtocol"] == "https"
    volumes = {v["name"]: v for v in pod_of(found)["volumes"]}
    assert volumes["tls"]["secret"]["secretName"] == "pair"
    assert volumes["client-ca"]["configMap"]["name"] == "authority"


@pytest.mark.parametrize(
    ("source", "path", "volume"),
    [
        ({"embedded": {"path": "/opt/m"}}, "/opt/m", None),
        (
            {"pvc": {"claim": "c", "path": "a/b"}},
            "/models/a/b",
            {"persistentVolumeClaim": {"claimName": "c", "readOnly": True}},
        ),
        ({"oci": {"image": "i:1"}}, "/models", {"image": {"reference": "i:1", "pullPolicy": "IfNotPresent"}}),
        ({"http": {"url": "http://h/m.tar", "sha256": "0" * 64}}, "/models/current", {"emptyDir": {}}),
    ],
)
def test_weights_are_mounted_read_only(
    model: Make, settings: PodSettings, source: dict[str, Any], path: str, volume: dict[str, Any] | None
) -> None:
    found = objects(model(model={"source": source}), settings)
    assert args_of(found)[1] == path
    mounts = [m for m in pod_of(found)["containers"][0]["volumeMounts"] if m["name"] == "models"]
    if volume is None:
        assert not mounts
        return
    assert mounts == [{"name": "models", "mountPath": "/models", "readOnly": True}]
    assert {"name": "models", **volume} in pod_of(found)["volumes"]


def test_the_embedded_model_needs_no_path(model: Make, settings: PodSettings) -> None:
    assert args_of(objects(model(), settings))[1].startswith("--")


def test_a_cache_is_filled_by_a_job_under_the_same_constraints(model: Make, settings: PodSettings) -> None:
    made = model(
        model={"source": {"huggingFace": {"repo": "o/n"}}, "secretRef": {"name": "token"}},
        cache={"size": "10Gi", "storageClassName": "fast"},
        pod={"nodeSelector": {"zone": "a"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]},
    )
    found = objects(made, settings)
    [job] = [m for name, m in found.items() if "fetch" in name]
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"zone": "a"}
    assert pod["tolerations"] == pod_of(found)["tolerations"]
    assert "hf://o/n@main" in pod["containers"][0]["args"]
    secrets = [v for v in pod["volumes"] if "secret" in v]
    assert secrets[0]["secret"]["secretName"] == "token"
    claim = found["PersistentVolumeClaim"]["spec"]
    assert claim["resources"]["requests"]["storage"] == "10Gi"
    assert claim["storageClassName"] == "fast"
    # The server's pods see the cache read-only, and no token.
    assert not [v for v in pod_of(found)["volumes"] if "secret" in v]


def test_another_source_is_another_folder_and_another_job(model: Make, settings: PodSettings) -> None:
    def names_of(revision: str) -> tuple[str, str]:
        source = {"source": {"huggingFace": {"repo": "o/n", "revision": revision}}}
        found = objects(model(model=source, cache={"size": "1Gi"}), settings)
        [job] = [name for name in found if "fetch" in name]
        return job, args_of(found)[1]

    first, second = names_of("v1"), names_of("v2")
    assert first[0] != second[0]
    assert first[1] != second[1]


def test_pods_without_a_cache_fetch_the_revision_that_was_found(model: Make, settings: PodSettings) -> None:
    made = model(model={"source": {"huggingFace": {"repo": "o/n"}}})
    found = objects(made, settings, revision="c" * 40)
    [job] = [m for name, m in found.items() if "fetch" in name]
    assert "--resolve-only" in job["spec"]["template"]["spec"]["containers"][0]["args"]
    [fetch] = pod_of(found)["initContainers"]
    assert f"hf://o/n@{'c' * 40}" in fetch["args"]
    pinned = model(model={"source": {"huggingFace": {"repo": "o/n", "revision": "d" * 40}}})
    assert not [name for name in objects(pinned, settings) if "fetch" in name]


def test_a_read_write_once_cache_is_never_mounted_twice(model: Make, settings: PodSettings) -> None:
    made = model(
        model={"source": {"huggingFace": {"repo": "o/n"}}}, cache={"size": "1Gi", "accessMode": "ReadWriteOnce"}
    )
    rolling = objects(made, settings)["Deployment"]["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 0, "maxUnavailable": 1}


def test_spread_counts_only_pods_of_the_same_revision(model: Make, settings: PodSettings) -> None:
    found = objects(model(pod={"topologySpread": [{"topologyKey": "zone"}]}), settings)
    assert pod_of(found)["topologySpreadConstraints"][0]["matchLabelKeys"] == ["pod-template-hash"]


def test_the_spec_cannot_take_the_labels_that_select(model: Make, settings: PodSettings) -> None:
    """The CRD refuses them; should one get through all the same, ours win."""
    found = objects(model(pod={"labels": {names.MODEL: "other", "team": "a"}}), settings)
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert labels[names.MODEL] == "m"
    assert labels["team"] == "a"


def test_a_pod_monitor_where_the_cluster_knows_them(model: Make, settings: PodSettings) -> None:
    found = objects(model(), settings, pod_monitors=True)
    assert found["PodMonitor"]["spec"]["podMetricsEndpoints"] == [{"port": "metrics", "path": "/metrics"}]


def test_names_of_the_longest_model_fit(model: Make, settings: PodSettings) -> None:
    name = "m" * 48
    made = model(name, model={"source": {"huggingFace": {"repo": "o/n"}}}, cache={"size": "1Gi"})
    for manifest in desired(made, settings, Choices(replicas=1, prune=True)):
        assert len(manifest["metadata"]["name"]) <= 63
