"""What the pipeline made, in the forms that other tools take."""
