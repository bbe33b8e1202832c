"""Arms, the exact schedule, reward routing, the ledger and the engines. Torch is imported in ``engines`` only."""
