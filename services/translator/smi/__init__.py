"""Service Mesh Interface (SMI) objects, all their versions, as objects of Istio."""

from services.translator.smi.naming import TRANSLATED_FROM, origin_of
from services.translator.smi.translating import (
    SMI_KINDS,
    is_smi,
    namespaces_of,
    translate,
)

__all__ = [
    "SMI_KINDS",
    "TRANSLATED_FROM",
    "is_smi",
    "namespaces_of",
    "origin_of",
    "translate",
]
