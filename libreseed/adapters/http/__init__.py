"""HTTP for every process that speaks it: one server around any ASGI application, one client."""
