"""The training floor: the recipe, the state, the loop and what stands beside it."""
