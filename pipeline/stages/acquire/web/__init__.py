"""HTTP: rate limits, retries, checks of URLs and bodies, and the store of downloads."""
