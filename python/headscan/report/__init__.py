"""The report: a scan as one HTML file that needs nothing else and asks for nothing."""

from __future__ import annotations

from headscan.report.page import write_report

__all__ = ["write_report"]
