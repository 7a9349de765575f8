"""Anchoring: the newest checkpoint kept where whoever may change the store can't reach it."""
