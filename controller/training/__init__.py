"""T2DRL: the nested loop, its rewards, and the folder that a training run leaves."""
