"""Records, their seal, and where they rest."""
