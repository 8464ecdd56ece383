"""The work of stages on several machines: shared results, parts, a Ray cluster."""
