"""Where cells run. An engine starts commands; what a cell is, it need not know."""
