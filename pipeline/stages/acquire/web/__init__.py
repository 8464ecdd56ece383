"""Downloads: concurrent, rate-limited, retried, checked, and never fetched twice."""
