"""What a node's programs are told: containerd, CNI, kubelet, kube-proxy."""

from pathlib import Path

from tests.cluster.api import Object
from tests.cluster.nodes import dns, host, image

SOCKET = "/run/containerd/containerd.sock"


def containerd(folder: Path) -> str:
    """Its configuration file."""
    return f"""version = 2
root = "{folder}/containerd"
state = "/run/containerd"
# It would make folders in the host's /opt; the others want devices or file systems that may not be there.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image.name("pause")}"
# Without CAP_SYS_RESOURCE no score may be lowered, and every sandbox would fail.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{folder}/cni"
"""


def network(pods: str) -> Object:
    """The network of pods. Addresses are handed out from memory: none stays taken after a power cut."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": "/run/cni",
            "ranges": [[{"subnet": pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, portmap]}


def kubelet(address: str, cgroup: str, authority: Path, folder: Path) -> Object:
    """Its configuration file."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(authority)}},
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "clusterDNS": [dns.ADDRESS],
        "clusterDomain": dns.DOMAIN,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        # The machine's disk and memory are for its owner to watch.
        "evictionHard": dict.fromkeys(("memory.available", "nodefs.available", "imagefs.available"), "0%"),
        "failCgroupV1": False,
        "failSwapOn": False,
        "healthzPort": 0,
        "imageGCHighThresholdPercent": 100,
        "nodeLeaseDurationSeconds": 16,
        "nodeStatusUpdateFrequency": "5s",
        "oomScoreAdj": 0,
        "resolvConf": "/dev/null",
        "serializeImagePulls": False,
        "volumePluginDir": str(folder / "volume-plugins"),
    }


def kube_proxy(name: str, kubeconfig: str) -> list[str]:
    """Its flags. Settings of conntrack that are the whole machine's are left alone."""
    return [
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={name}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={host.POD_RANGE}",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
        "--healthz-bind-address=127.0.0.1:10256",
        "--metrics-bind-address=127.0.0.1:10249",
        "--oom-score-adj=0",
    ]
