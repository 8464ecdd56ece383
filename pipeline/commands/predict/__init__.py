"""`pipeline predict`: classes and probabilities of photographs."""
