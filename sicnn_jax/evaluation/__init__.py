"""Compares methods on held-out faces, and verifies pairs of photographs."""
