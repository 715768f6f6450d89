"""Check the arguments of a fill and pass them to the compiled core in one call."""
