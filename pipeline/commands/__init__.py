"""The commands of `pipeline`, by what they are about. What is slow to import they import late."""
