"""Methods compared on held-out faces, and pairs of photographs verified."""
