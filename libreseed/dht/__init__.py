"""The DHT as timed state machines: KRPC, routing, lookups, stored items. No sockets, no clock (BEP 5, 32, 42, 44)."""
