"""The parts of the simulator; `training.simulate` is the way in."""
