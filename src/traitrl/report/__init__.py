"""The page: what the study found, every interval, count and loser shown. Import ``report.build`` to make it."""
