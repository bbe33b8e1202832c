"""The whole path from a study file to a report. :mod:`traitrl.study.path` is the path in one file."""
