"""From the arguments of a fill to one call of the compiled core."""
