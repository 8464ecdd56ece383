"""The commands of `pipeline`, a module or a package each. Slow imports come late."""
