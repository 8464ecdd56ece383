"""Many trainings of what shares features: which params give the best one."""
