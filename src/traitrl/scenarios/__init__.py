"""Scenario files into a study: read, checked, frozen. Generation and deduplication are further stages of this room."""

from traitrl.scenarios.freeze import freeze_scenarios as freeze_scenarios
