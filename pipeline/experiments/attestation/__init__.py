"""Signed statements about models: written by `pipeline attest`, checked by `pipeline verify`."""
