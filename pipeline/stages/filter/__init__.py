"""Stage filter: judge every image once, and store the good ones upright and uniform."""
