"""Where a model comes from, and how its weights are kept."""

from enum import Enum
from typing import Annotated

from lepton_operator.api.base import NO_CONTROL, ObjectName, Quantity, Struct, meta, rules

_PATH = r"^[A-Za-z0-9._+=@~/ -]*$"
_RELATIVE = "^[^/]"

NOT_ABOVE = ("!self.split('/').exists(part, part == '..')", "the path may not contain '..'")


class HuggingFaceSource(Struct, frozen=True):
    """A repository of the Hugging Face Hub."""

    repo: Annotated[
        str,
        meta(
            "The repository: `owner/name`.",
            min_length=1,
            max_length=200,
            pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$",
        ),
    ]
    revision: Annotated[
        str,
        meta(
            "Branch, tag or commit. A branch is resolved to a commit once, when the model is fetched; change this "
            "field to fetch another.",
            min_length=1,
            max_length=200,
            pattern=r"^[A-Za-z0-9._/-]+$",
        ),
    ] = "main"


class PVCSource(Struct, frozen=True):
    """A folder of a PersistentVolumeClaim that already holds the model."""

    claim: Annotated[ObjectName, meta("The claim, in the namespace of this object.")]
    path: Annotated[
        str,
        meta("The folder within the volume. Default: its root.", max_length=512, pattern=_PATH, cel=(NOT_ABOVE,)),
    ] = ""


class S3Source(Struct, frozen=True):
    """A prefix of an S3 bucket. Credentials: `accessKeyID` and `secretAccessKey` in `secretRef`, else the pod's own."""

    bucket: Annotated[str, meta("The bucket.", min_length=3, max_length=63, pattern=r"^[a-z0-9][a-z0-9.-]+[a-z0-9]$")]
    prefix: Annotated[
        str, meta("What the names of the model's objects begin with, as a folder.", max_length=512, pattern=_PATH)
    ] = ""
    endpoint: (
        Annotated[
            str,
            meta("Address of a service that speaks S3. Default: AWS.", max_length=512, pattern=r"^https?://[^\s]+$"),
        ]
        | None
    ) = None
    region: Annotated[str, meta("The bucket's region.", max_length=63, pattern=r"^[a-z0-9-]+$")] | None = None


class GCSSource(Struct, frozen=True):
    """A prefix of a Google Cloud Storage bucket. Credentials: `credentials.json` in `secretRef`, else the pod's own."""

    bucket: Annotated[str, meta("The bucket.", min_length=3, max_length=222, pattern=r"^[a-z0-9][a-z0-9._-]+[a-z0-9]$")]
    prefix: Annotated[
        str, meta("What the names of the model's objects begin with, as a folder.", max_length=512, pattern=_PATH)
    ] = ""
    endpoint: (
        Annotated[
            str,
            meta(
                "Address of a service that speaks GCS. Default: Google's.", max_length=512, pattern=r"^https?://[^\s]+$"
            ),
        ]
        | None
    ) = None


class HTTPSource(Struct, frozen=True):
    """A tar archive, or a single file, behind HTTP. Credentials: `token` in `secretRef`, sent as a bearer token."""

    url: Annotated[
        str,
        meta(
            "The address. Archives (.tar, .tar.gz, .tgz) are unpacked.", max_length=2048, pattern=r"^https?://[^\s]+$"
        ),
    ]
    sha256: (
        Annotated[str, meta("SHA-256 of the file, in hexadecimal; checked.", max_length=64, pattern=r"^[0-9a-f]{64}$")]
        | None
    ) = None


class PullPolicy(Enum):
    """When the kubelet pulls an image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class OCISource(Struct, frozen=True):
    """An OCI image or artifact that holds the model, mounted by the kubelet (feature ImageVolume)."""

    image: Annotated[str, meta("The reference.", min_length=1, max_length=512, pattern=r"^[^\s]+$")]
    path: Annotated[
        str, meta("The folder within the image. Default: its root.", max_length=512, pattern=_PATH, cel=(NOT_ABOVE,))
    ] = ""
    pull_policy: Annotated[PullPolicy, meta("When the kubelet pulls the image.")] = PullPolicy.IF_NOT_PRESENT


class EmbeddedSource(Struct, frozen=True):
    """A folder inside the server's image: for clusters without a network, and for tests."""

    path: Annotated[
        str,
        meta(
            "The folder, absolute. Default: the demonstration model that the server brings along.",
            max_length=512,
            pattern=_PATH,
            cel=(
                ("self == '' || self.startsWith('/')", "embedded.path must be absolute: begin it with '/'"),
                NOT_ABOVE,
            ),
        ),
    ] = ""


SOURCE_KINDS = ("huggingFace", "pvc", "s3", "gcs", "http", "oci", "embedded")
FETCHED_KINDS = ("huggingFace", "s3", "gcs", "http")


@rules(
    (
        " + ".join(f"(has(self.{kind}) ? 1 : 0)" for kind in SOURCE_KINDS) + " == 1",
        f"give exactly one source: {', '.join(SOURCE_KINDS)}",
    )
)
class Source(Struct, frozen=True):
    """Where the weights come from: exactly one of these. Changing it rolls the pods over to the new weights."""

    hugging_face: Annotated[HuggingFaceSource, meta("A repository of the Hugging Face Hub.")] | None = None
    pvc: Annotated[PVCSource, meta("A PersistentVolumeClaim that already holds the model.")] | None = None
    s3: Annotated[S3Source, meta("A prefix of an S3 bucket.")] | None = None
    gcs: Annotated[GCSSource, meta("A prefix of a Google Cloud Storage bucket.")] | None = None
    http: Annotated[HTTPSource, meta("An archive or a file behind HTTP.")] | None = None
    oci: Annotated[OCISource, meta("An OCI image, mounted as a volume (feature ImageVolume).")] | None = None
    embedded: Annotated[EmbeddedSource, meta("A folder inside the server's image.")] | None = None


class WeightScheme(Enum):
    """How the server holds the weights."""

    NONE = "none"
    INT8 = "int8"
    INT8_W8A8 = "int8-w8a8"
    INT4 = "int4"
    INT4_G32 = "int4-g32"
    INT4_G64 = "int4-g64"
    INT4_G128 = "int4-g128"
    FP8 = "fp8"
    FP8_W8A8 = "fp8-w8a8"


class KVCacheScheme(Enum):
    """How the server holds the KV cache."""

    AUTO = "auto"
    INT8 = "int8"
    FP8 = "fp8"


class Quantization(Struct, frozen=True):
    """Number formats of weights and KV cache."""

    weights: Annotated[
        WeightScheme,
        meta("Format that the weights are quantised to when they are loaded; `none` keeps the checkpoint's."),
    ] = WeightScheme.NONE
    kv_cache: Annotated[KVCacheScheme, meta("Format of the KV cache; `auto` is that of the activations.")] = (
        KVCacheScheme.AUTO
    )


class SecretRef(Struct, frozen=True):
    """A Secret in the namespace of this object. The kubelet mounts it into the pods that fetch; the operator never
    reads it."""

    name: Annotated[
        ObjectName,
        meta(
            "The Secret. Keys: `token` (Hugging Face, HTTP), `accessKeyID`, `secretAccessKey` and `sessionToken` (S3), "
            "`credentials.json` (GCS)."
        ),
    ]


class ModelSource(Struct, frozen=True):
    """The model and its source."""

    source: Annotated[Source, meta("Where the weights come from: exactly one of its fields.")]
    secret_ref: Annotated[SecretRef, meta("Credentials of the source.")] | None = None
    served_name: (
        Annotated[
            str,
            meta(
                "Name that requests use. Default: the name of this object.",
                min_length=1,
                max_length=200,
                pattern=NO_CONTROL,
            ),
        ]
        | None
    ) = None


class AccessMode(Enum):
    """How pods share a volume."""

    READ_WRITE_MANY = "ReadWriteMany"
    READ_WRITE_ONCE = "ReadWriteOnce"


@rules(
    (
        "has(self.existingClaim) ? !has(self.size) && !has(self.storageClassName) : has(self.size)",
        "give either cache.size (and optionally cache.storageClassName) for a new claim, or cache.existingClaim alone",
    )
)
class Cache(Struct, frozen=True):
    """A volume that keeps fetched weights across pods. Without it each pod fetches into an emptyDir of its own."""

    size: Annotated[Quantity, meta("Size of the claim that is created. It may grow, never shrink.")] | None = None
    access_mode: Annotated[
        AccessMode,
        meta("ReadWriteMany shares the volume between pods; ReadWriteOnce allows a single replica. Cannot change."),
    ] = AccessMode.READ_WRITE_MANY
    storage_class_name: (
        Annotated[ObjectName, meta("Storage class of the claim. Default: the cluster's. Cannot change.")] | None
    ) = None
    existing_claim: (
        Annotated[ObjectName, meta("A claim that exists already, used instead of a new one. Cannot change.")] | None
    ) = None
