"""Service Mesh Interface (SMI) objects, all their versions, as objects of Istio."""

from services.chassis.messages.following import TRANSLATED_FROM
from services.translator.smi.models import SPECS_GROUP
from services.translator.smi.naming import origin_of
from services.translator.smi.translating import (
    SMI_KINDS,
    is_smi,
    namespaces_of,
    translate,
)

__all__ = [
    "SMI_KINDS",
    "SPECS_GROUP",
    "TRANSLATED_FROM",
    "is_smi",
    "namespaces_of",
    "origin_of",
    "translate",
]
