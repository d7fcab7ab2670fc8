"""Certificates: what the expected update of a plug ascends, exactly, on worlds of which every episode is known."""

from pgjax.certificates.certificate import Case, Certificate
from pgjax.certificates.certifying import certify
from pgjax.certificates.verdicts import VERDICTS, Verdict
from pgjax.certificates.worlds import World, family

__all__ = ["VERDICTS", "Case", "Certificate", "Verdict", "World", "certify", "family"]
