"""The append-only, hash-chained record of decisions and usage. Files only: knows no database and no HTTP."""

from ecotone.ledger.reading import Ledger, Problem, Report
from ecotone.ledger.records import Head, Receipt, request_id
from ecotone.ledger.usage import UsageLine, explain, settle_open, usage
from ecotone.ledger.writing import LedgerFull, LedgerWriter, public_key

__all__ = [
    "Head",
    "Ledger",
    "LedgerFull",
    "LedgerWriter",
    "Problem",
    "Receipt",
    "Report",
    "UsageLine",
    "explain",
    "public_key",
    "request_id",
    "settle_open",
    "usage",
]
