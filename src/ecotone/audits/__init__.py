"""Audits: suites that measure a revision, their results with intervals and criticism, and plots of them.

`weat` holds the arithmetic, `weat.yaml` the word lists, `weat_suite` joins them; `encoding` gets vectors out of a model
inside the child process `suite_child`; `services` ties audits to catalogue and jobs.
"""

from ecotone.audits.errors import AuditNotInstalled, NotAuditable
from ecotone.audits.plots import plot
from ecotone.audits.services import Audits
from ecotone.audits.suites import Embedded, Suite, suite, suites

__all__ = ["AuditNotInstalled", "Audits", "Embedded", "NotAuditable", "Suite", "plot", "suite", "suites"]
