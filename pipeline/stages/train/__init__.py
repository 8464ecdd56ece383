"""Stage train: fit the part of the network that is to be trained."""
