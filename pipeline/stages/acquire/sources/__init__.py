"""The kinds of sources that images can come from, a module each."""
