"""The append-only, hash-chained record of decisions and usage. Files only: knows no database and no HTTP."""

from ecotone.ledger.explaining import explain
from ecotone.ledger.lines import request_id
from ecotone.ledger.reading import Ledger
from ecotone.ledger.records import Head, Receipt
from ecotone.ledger.rulings import Rulings
from ecotone.ledger.settling import settle_open
from ecotone.ledger.usage import UsageLine, usage
from ecotone.ledger.verifying import Problem, Report
from ecotone.ledger.writing import LedgerBusy, LedgerFull, LedgerWriter, public_key, unwritten

__all__ = [
    "Head",
    "Ledger",
    "LedgerBusy",
    "LedgerFull",
    "LedgerWriter",
    "Problem",
    "Receipt",
    "Report",
    "Rulings",
    "UsageLine",
    "explain",
    "public_key",
    "request_id",
    "settle_open",
    "unwritten",
    "usage",
]
