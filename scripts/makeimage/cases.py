"""All cases by name, in the order in which `--list` shows them."""

from . import cases_files, cases_blocks, cases_chains, cases_journal, cases_churn, cases_live, cases_orphans, cases_tables, history  # noqa: F401
from .builder import CASES  # noqa: F401
