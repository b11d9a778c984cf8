"""Other ways to foresee what a visitor does, each a small class, all judged on one protocol: `inkling baselines FILE`."""
