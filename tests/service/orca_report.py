"""The load report as its readers know it: https://github.com/cncf/xds, xds/data/orca/v3/orca_load_report.proto.

Not from the package xds-protos: it overwrites files of googleapis-common-protos and opentelemetry-proto.
"""

from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

_PACKAGE = "xds.data.orca.v3"
_NUMBERS = {"cpu_utilization": 1, "mem_utilization": 2, "rps_fractional": 6, "eps": 7, "application_utilization": 9}
_MAPS = {"request_cost": 4, "utilization": 5, "named_metrics": 8}


def _message() -> DescriptorProto:
    field = FieldDescriptorProto
    report = DescriptorProto(name="OrcaLoadReport")
    for name, number in _NUMBERS.items():
        report.field.add(name=name, number=number, type=field.TYPE_DOUBLE, label=field.LABEL_OPTIONAL)
    report.field.add(name="rps", number=3, type=field.TYPE_UINT64, label=field.LABEL_OPTIONAL)
    for name, number in _MAPS.items():
        entry = "".join(part.capitalize() for part in name.split("_")) + "Entry"
        nested = report.nested_type.add(name=entry)
        nested.options.map_entry = True
        nested.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
        nested.field.add(name="value", number=2, type=field.TYPE_DOUBLE, label=field.LABEL_OPTIONAL)
        type_name = f".{_PACKAGE}.OrcaLoadReport.{entry}"
        report.field.add(
            name=name, number=number, type=field.TYPE_MESSAGE, label=field.LABEL_REPEATED, type_name=type_name
        )
    return report


def _class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    file = FileDescriptorProto(name="original.proto", package=_PACKAGE, syntax="proto3", message_type=[_message()])
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.OrcaLoadReport"))


OrcaLoadReport = _class()
