"""What the 1-Lipschitz layers of every framework share: pure functions of their parameters."""
