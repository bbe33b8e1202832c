# What pyright takes `transformers` for. The package's own `__init__` names 2,900 modules to a type checker, which then reads
# them all: over a third of the whole check. Calls into it are held by the tests, which run them.
from typing import Any

def __getattr__(name: str) -> Any: ...
