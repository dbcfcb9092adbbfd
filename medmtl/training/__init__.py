"""How one model learns."""
