"""Integrity: a store in, findings out. What can be proved is proved; what can't is said."""

from auditkit.integrity.findings import Finding, PartitionResult, Verification
from auditkit.integrity.verification import verify_store

__all__ = ["Finding", "PartitionResult", "Verification", "verify_store"]
