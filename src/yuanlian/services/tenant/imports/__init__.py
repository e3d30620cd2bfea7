"""Children from a spreadsheet."""
