"""Load reports in the form that gRPC's load balancers read: xds.data.orca.v3.OrcaLoadReport.

gRFC A51 names the trailer, https://github.com/cncf/xds/blob/main/xds/data/orca/v3/orca_load_report.proto the message.
It is described here, in a pool of its own, with the fields that are filled: the package of the original brings 8 MB of
others.
"""

from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from lepton_engine.messages import EngineStats

TRAILER_KEY = "endpoint-load-metrics-bin"

_FIELDS = (("rps_fractional", 6), ("eps", 7), ("application_utilization", 9))
_MAPS = (("utilization", 5), ("named_metrics", 8))


def _message_class() -> Any:
    double, text, message = (getattr(FieldDescriptorProto, "TYPE_" + kind) for kind in ("DOUBLE", "STRING", "MESSAGE"))
    name = "xds.data.orca.v3"
    report = DescriptorProto(name="OrcaLoadReport")
    for field, number in _FIELDS:
        report.field.add(name=field, number=number, type=double, label=FieldDescriptorProto.LABEL_OPTIONAL)
    for field, number in _MAPS:
        entry = "".join(part.capitalize() for part in field.split("_")) + "Entry"
        nested = report.nested_type.add(name=entry)
        nested.options.map_entry = True
        nested.field.add(name="key", number=1, type=text, label=FieldDescriptorProto.LABEL_OPTIONAL)
        nested.field.add(name="value", number=2, type=double, label=FieldDescriptorProto.LABEL_OPTIONAL)
        kind = f".{name}.OrcaLoadReport.{entry}"
        report.field.add(
            name=field, number=number, type=message, type_name=kind, label=FieldDescriptorProto.LABEL_REPEATED
        )
    file = FileDescriptorProto(name="orca_load_report.proto", package=name, syntax="proto3", message_type=[report])
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{name}.OrcaLoadReport"))


_Report = _message_class()


def load_report(stats: EngineStats, rates: tuple[float, float] = (0.0, 0.0)) -> bytes:
    """The engine's load, serialised.

    `application_utilization` is the larger of the sequences that run or wait over those that may run, and the KV
    cache's referenced share; above 1 requests wait. `utilization` has `kv_cache`, `named_metrics` what StatsService
    tells under the same names.

    Args:
        rates: requests and errors a second.
    """
    cache = stats.kv_blocks_referenced / stats.kv_blocks_total if stats.kv_blocks_total else 0.0
    sequences = (stats.num_running + stats.num_waiting) / stats.max_num_seqs if stats.max_num_seqs else 0.0
    report = _Report(
        rps_fractional=rates[0],
        eps=rates[1],
        application_utilization=max(sequences, cache),
        utilization={"kv_cache": cache},
        named_metrics={
            "running": stats.num_running,
            "waiting": stats.num_waiting,
            "waiting_tokens": stats.waiting_tokens,
            "kv_blocks_free": stats.kv_blocks_free,
            "kv_blocks_referenced": stats.kv_blocks_referenced,
            "generated_tokens_per_second": stats.generated_tokens_per_second,
        },
    )
    return bytes(report.SerializeToString())
