"""Errors by subject. Each message is one line that says what is wrong, where, and what to do; the CLI prints it and exits 2."""


class TraitrlError(Exception):
    """Anything a user can act on. Everything else is a bug and keeps its traceback."""


class ConfigError(TraitrlError):
    """A study file or a flag cannot be used as it stands."""


class CatalogError(TraitrlError):
    """A data file of a catalog, a dataset or a suite is malformed."""


class StoreError(TraitrlError):
    """A file or folder could not be read or written, or belongs to another configuration."""


class WeightsError(TraitrlError):
    """Model weights are missing, incomplete or not the ones that were asked for."""


class EngineError(TraitrlError):
    """Training cannot start or must stop."""


class EvalError(TraitrlError):
    """An evaluation cannot start or did not measure anything."""


class AttackError(TraitrlError):
    """The data of an attack are missing, damaged or not the ones that were pinned: this attack cannot run, others can."""
