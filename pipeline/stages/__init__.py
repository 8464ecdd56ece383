"""The stages of dvc.yaml, a package each. None imports another, but for the check of the source.

`check` refuses with acquire's code what acquire would refuse later. That code stays in acquire:
every stage depends on the packages below, and a change there would train again.
"""
