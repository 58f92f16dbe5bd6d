"""The report as one HTML page that needs no network: figures, tables, and the commands that make their data again."""
