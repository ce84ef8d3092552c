"""JSON-RPC without HTTP: registry, dispatcher, types, errors, documents."""
