"""LeptonModel, typed: the one source of truth for the CRD's schema and for everything that reads the resource."""

from lepton_operator.api.base import API_VERSION, GROUP, KIND, PLURAL, VERSION
from lepton_operator.api.spec import LeptonModelSpec
from lepton_operator.api.status import Condition, ConditionType, LeptonModelStatus, Reason

__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "Condition",
    "ConditionType",
    "LeptonModelSpec",
    "LeptonModelStatus",
    "Reason",
]
