"""The learners: nets, losses, double DQN and D3PG. They know arrays and minibatches only."""
