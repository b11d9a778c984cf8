"""The decoder against another reading of the same rules, on bytes that nobody would think of."""
