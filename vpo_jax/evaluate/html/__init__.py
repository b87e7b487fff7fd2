"""The report that people look at: report.html, its data and its videos."""
