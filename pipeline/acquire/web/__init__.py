"""Fetching from strangers: politely, suspiciously, many at once, and never twice."""
