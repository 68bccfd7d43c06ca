"""Tables, figures and reports, from Records alone; torch is not needed."""

from cocabench.report.write import write_report

__all__ = ["write_report"]
