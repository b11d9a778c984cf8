"""`inkling demo`: the whole loop on this machine, closed once, with a summary of what happened."""
