"""`pipeline credits`: attribution of the photographs."""
