"""The processes: each folder only wires the core to the adapters."""
