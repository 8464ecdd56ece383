"""`pipeline new`: a data set from the photographs that somebody has."""
